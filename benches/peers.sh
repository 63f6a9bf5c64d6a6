#!/usr/bin/env bash
# Prints a folder with the peers of `make bench`: bin/llama-bench, bin/llama-batched-bench and bin/llama-quantize,
# python/ (an environment with gguf, tiktoken, tokenizers) and onnx/ (packages for PyTorch's ONNX export).
#
# It lies in the user's cache folder under the hash of its pins. The first call builds llama.cpp, which takes
# some minutes; it needs a C++ compiler. It appears whole or not at all.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
llama=llama-cpp-python==0.3.36
onnx="onnx==1.23.2 onnxscript==0.7.2 onnx_ir==1.1.0 onnxruntime==1.31.1 ml_dtypes==0.6.0 flatbuffers==25.12.19 protobuf==7.36.2"
python=${PYTHON:-python3}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/llmc
key=$({ cat "$here/requirements.txt" "${BASH_SOURCE[0]}"; uname -m; "$python" --version; } | sha256sum | cut -c1-16)
place=$cache/peers-$key
if [ -x "$place/bin/llama-bench" ]; then
    echo "$place"
    exit 0
fi

mkdir -p "$cache"
# Scripts of an environment know its path, so it is made where it stays; the marker is bin/, made last.
rm -rf "$place"
mkdir -p "$place"
building=$(mktemp -d "$cache/building-XXXXXX")
trap 'rm -rf "$building"' EXIT
{
    echo "making $place"
    "$python" -m venv "$place/python"
    pip="$place/python/bin/python -m pip --disable-pip-version-check"
    $pip install --quiet -r "$here/requirements.txt"
    # shellcheck disable=SC2086
    $pip install --quiet --no-deps --target "$place/onnx" $onnx
    $pip download --quiet --no-deps --no-binary llama-cpp-python --dest "$building" "$llama"
    tar xzf "$building"/llama_cpp_python-*.tar.gz -C "$building"
    PATH=$place/python/bin:$PATH
    cmake -S "$building"/llama_cpp_python-*/vendor/llama.cpp -B "$building/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
        -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF \
        -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF
    ninja -C "$building/build" llama-bench llama-batched-bench llama-quantize
    mkdir "$building/bin"
    cp "$building"/build/bin/llama-{bench,batched-bench,quantize} "$building/bin/"
    mv "$building/bin" "$place/bin"
} >&2
echo "$place"
