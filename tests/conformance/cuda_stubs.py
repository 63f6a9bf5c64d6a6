"""Makes `import torch` work without the CUDA libraries that PyPI's Linux build is linked to.

    python cuda_stubs.py SITE_PACKAGES

That build names a dozen CUDA libraries, 4 GB installed, of which a check on the CPU calls none. For
each that is not there this links a small library with the same name, the same symbols and the
same symbol versions, so that the loader is content. A call of any of them ends the process with
a message; none can give a number. Needs `cc`, `nm` and `objdump`, which every Rust toolchain's
linker brings. Does nothing where no library is missing (macOS, CPU builds).
"""

import collections
import pathlib
import re
import subprocess
import sys
import tempfile

CUDA = re.compile(r"lib(cu|nv|nccl)")
# Belongs to the driver and is looked for only when a GPU is used.
DRIVER = "libcuda.so.1"
# Symbols without a version do not say which library they come from; their names do.
UNVERSIONED = re.compile(r"(nccl|nvshmem|cuFile|cufile|cupti|cusparseLt|nvml)[A-Za-z0-9_]*$")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main(site):
    libraries = sorted((site / "torch" / "lib").glob("*.so*"))
    present = {path.name for path in [*libraries, *(site / "nvidia").glob("**/*.so*")]}
    missing, owner, symbols = [], {}, collections.defaultdict(set)
    for library in libraries:
        header = output("objdump", "-p", str(library))
        for name in re.findall(r"NEEDED\s+(\S+)", header):
            if CUDA.match(name) and name != DRIVER and name not in present | set(missing):
                missing.append(name)
        # "required from LIBRARY:" stands before lines that end in a version of that library.
        for line in header.partition("Version References:")[2].splitlines():
            if found := re.match(r"\s+required from (\S+):", line):
                source = found[1]
            elif found := re.match(r"\s+0x\S+ 0x\S+ \d+ (\S+)", line):
                owner[found[1]] = source
    for library in libraries:
        for line in output("nm", "-D", "--undefined-only", str(library)).splitlines():
            symbol, _, version = line.split()[-1].partition("@")
            if owner.get(version) in missing:
                symbols[owner[version], version].add(symbol)
            elif not version and UNVERSIONED.match(symbol):
                # Who defines an unversioned symbol does not matter, as long as one does.
                symbols[missing[-1] if missing else None, None].add(symbol)
    for name in missing:
        link(site / "torch" / "lib" / name, {v: s for (n, v), s in symbols.items() if n == name})
    print(f"linked {len(missing)} empty CUDA libraries", file=sys.stderr)


def link(target, symbols):
    """Links `target` with symbols {version or None: names}."""
    source = [
        "#include <stdio.h>",
        "#include <stdlib.h>",
        "static void stop(const char *name) {",
        '    fprintf(stderr, "%s: this environment has no CUDA libraries\\n", name);',
        "    abort();",
        "}",
        *(f'void {s}(void) {{ stop("{s}"); }}' for s in sorted(set().union(*symbols.values()))),
    ]
    versions = [
        f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names))} }};"
        for version, names in symbols.items()
        if version
    ]
    with tempfile.TemporaryDirectory() as folder:
        text, script = pathlib.Path(folder, "stub.c"), pathlib.Path(folder, "stub.map")
        text.write_text("\n".join(source) + "\n")
        script.write_text("\n".join(versions) + "\n")
        command = ["cc", "-shared", "-fPIC", "-w", "-o", str(target), f"-Wl,-soname,{target.name}"]
        if versions:
            command.append(f"-Wl,--version-script={script}")
        subprocess.run([*command, str(text)], check=True)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
