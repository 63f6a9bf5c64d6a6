//! A C program against the library: it compiles, links, and has the bits of the Rust kernels.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use llmc_kernels as k;
use std::path::{Path, PathBuf};
use std::process::Command;

const M: usize = 21;
const N: usize = 37;
const K: usize = 64;
const HEADS: usize = 4;
const KV_HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const TOKENS: usize = 19;

/// The numbers of `check.c`.
struct Values(u64);

impl Values {
    fn take(&mut self, n: usize) -> Vec<f32> {
        (0..n)
            .map(|_| {
                self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (self.0 >> 40) as f32 * f32::powi(2.0, -23) - 1.0
            })
            .collect()
    }
}

/// What the program is to print, by the Rust kernels on one thread.
fn expected() -> Vec<(&'static str, Vec<f32>)> {
    let ctx = k::Ctx::detect(&k::Serial);
    let mut values = Values(1);
    let (x, w, bias) = (values.take(M * K), values.take(N * K), values.take(N));
    let mut all = Vec::new();
    let mut y = vec![0.0; M * N];
    let b = k::MatRef::row_major(&w, K).transposed();
    let (a, precision) = (k::MatRef::row_major(&x, K), k::Precision::F32);
    let (accumulate, residual) = (false, None);
    let mut problem =
        k::Gemm { m: M, n: N, k: K, a, b, accumulate, bias: Some(&bias), residual, precision };
    let mut scratch = vec![0.0; 1 << 22];
    k::gemm(&ctx, &problem, &mut y, N, &mut scratch).unwrap();
    all.push(("gemm", y.clone()));
    problem = k::Gemm {
        bias: None,
        accumulate: true,
        precision: k::Precision::Bf16 { group: K },
        ..problem
    };
    k::gemm(&ctx, &problem, &mut y, N, &mut scratch).unwrap();
    all.push(("gemm_bf16", y.clone()));

    let elements = k::panels(N) * K * k::PANEL;
    let (mut halves, mut bytes) = (vec![0; elements], vec![0; elements]);
    let (mut nibbles, mut scales) = (vec![0; elements / 2], vec![0; elements / k::BLOCK]);
    k::pack_bf16(&w, K, &mut halves).unwrap();
    let packed = k::Packed::Bf16(&halves);
    k::packed_linear(&ctx, &x, K, packed, Some(&bias), N, &mut y).unwrap();
    all.push(("linear_bf16", y.clone()));
    k::quantize_i8(&w, K, &mut bytes, &mut scales).unwrap();
    let (q, s) = (k::Quants::I8(&bytes), k::Scales::F16(&scales));
    k::quantized_linear(&ctx, &x, K, q, s, Some(&bias), N, &mut y, &mut scratch).unwrap();
    all.push(("linear_q8_0", y.clone()));
    k::quantize_i4(&w, K, &mut nibbles, &mut scales).unwrap();
    let (q, s) = (k::Quants::I4(&nibbles), k::Scales::F16(&scales));
    k::quantized_linear(&ctx, &x, K, q, s, None, N, &mut y, &mut scratch).unwrap();
    all.push(("linear_q4_0", y));

    let mut z = vec![0.0; M * K];
    k::rms_norm(&ctx, &x, &w[..K], 1e-5, &mut z).unwrap();
    all.push(("rms_norm", z.clone()));
    k::layer_norm(&ctx, &x, &w[..K], Some(&w[K..2 * K]), 1e-5, &mut z).unwrap();
    all.push(("layer_norm", z.clone()));
    k::softmax(&ctx, &x, K, &mut z).unwrap();
    all.push(("softmax", z.clone()));
    for activation in [k::relu, k::silu, k::gelu, k::gelu_tanh] {
        activation(&ctx, &x, &mut z).unwrap();
        all.push(("activation", z.clone()));
    }
    k::swiglu(&ctx, &x, &w[..M * K], &mut z).unwrap();
    all.push(("swiglu", z));

    let q = values.take(TOKENS * HEADS * HEAD_DIM);
    let kv = TOKENS * KV_HEADS * HEAD_DIM;
    let (key, v) = (values.take(kv), values.take(kv));
    let mut o = vec![0.0; q.len()];
    let positions: Vec<i32> = (0..TOKENS as i32).collect();
    let frequencies: Vec<f32> = (0..HEAD_DIM / 2).map(|i| 1.0 / (1 << i) as f32).collect();
    k::rope(&ctx, &q, HEADS, &frequencies, &positions, &mut o).unwrap();
    all.push(("rope", o.clone()));
    let shape = k::Attention {
        batch: 1,
        n_heads: HEADS,
        n_kv_heads: KV_HEADS,
        q_len: TOKENS,
        kv_len: TOKENS,
        kv_capacity: TOKENS,
        head_dim: HEAD_DIM,
        scale: 0.25,
        causal: true,
        window: Some(7),
    };
    k::attention(&ctx, &shape, &q, &key, &v, None, None, &mut o, &mut scratch).unwrap();
    all.push(("attention", o));
    all
}

/// The newest static library that cargo built beside this test.
fn library() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let files = std::fs::read_dir(exe.parent().unwrap()).unwrap().map(|e| e.unwrap().path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.starts_with("libllmc_kernels_c") && name.ends_with(".a")
    };
    let modified = |path: &PathBuf| path.metadata().and_then(|m| m.modified()).unwrap();
    files.filter(is_it).max_by_key(modified).expect("cargo builds the static library first")
}

#[test]
fn a_c_program_has_the_bits_of_the_kernels() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::temp_dir().join(format!("llmc-kernels-c-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let program = folder.join("check");
    let mut cc = Command::new(std::env::var_os("CC").unwrap_or("cc".into()));
    cc.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-O1"]);
    cc.arg("-I").arg(root.join("include")).arg(root.join("tests/check.c")).arg(library());
    cc.arg("-o").arg(&program).args(["-lpthread", "-ldl", "-lm"]);
    let built = cc.output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

    let expected = expected();
    let isas = k::Isa::available().map(|isa| vec![isa.name()]);
    for isa in isas.chain([Vec::new()]) {
        for threads in ["1", "3"] {
            let ran = Command::new(&program).arg(threads).args(&isa).output().unwrap();
            assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
            let text = String::from_utf8(ran.stdout).unwrap();
            assert_eq!(text.lines().count(), expected.len());
            for (line, (name, values)) in text.lines().zip(&expected) {
                let bits: String = values.iter().map(|v| format!(" {:08x}", v.to_bits())).collect();
                assert!(line == format!("{name}{bits}"), "{name} on {isa:?}, {threads} threads");
            }
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
