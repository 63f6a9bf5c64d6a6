//! Both directions of each table, and what does not fit.

use super::*;

fn f32s(shape: &[usize], first: u32) -> Tensor<'static> {
    let n: usize = shape.iter().product();
    let data = (0..n as u32).flat_map(|i| ((first + i) as f32).to_le_bytes()).collect();
    Tensor { dtype: DType::F32, shape: shape.to_vec(), data: Cow::Owned(data) }
}

fn values(tensor: &Tensor<'_>) -> Vec<f32> {
    tensor.data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// One tensor per name of ours in the table, for two layers, square matrices where fused.
fn filled(family: Family) -> Tensors<'static> {
    let mut out = Tensors::new();
    for rule in family.rules() {
        for pattern in rule.ours {
            let shape: &[usize] = if pattern.ends_with("bias") { &[3] } else { &[3, 3] };
            for layer in ["0", "11"] {
                out.insert(fill(pattern, layer), f32s(shape, 100 * out.len() as u32));
            }
        }
    }
    out
}

#[test]
fn every_table_round_trips() {
    for family in Family::ALL {
        let ours = filled(family);
        let theirs = to_theirs(family, &ours).unwrap();
        assert_eq!(to_ours(family, &theirs).unwrap(), ours, "{family:?}");
        for (our, their) in pairs(family, ours.keys().map(String::as_str)).unwrap() {
            assert!(theirs.contains_key(&their), "{our} → {their}");
        }
    }
}

#[test]
fn no_name_stands_twice_in_a_table() {
    for family in Family::ALL {
        let mut theirs: Vec<&str> = family.rules().iter().map(|rule| rule.theirs).collect();
        let mut ours: Vec<&str> =
            family.rules().iter().flat_map(|rule| rule.ours).copied().collect();
        let (n_theirs, n_ours) = (theirs.len(), ours.len());
        theirs.sort_unstable();
        theirs.dedup();
        ours.sort_unstable();
        ours.dedup();
        assert_eq!((theirs.len(), ours.len()), (n_theirs, n_ours), "{family:?}");
    }
}

#[test]
fn empty_tensors_of_any_shape_end() {
    let empty = |shape: [usize; 2]| Tensor {
        dtype: DType::F32,
        shape: shape.to_vec(),
        data: Cow::Owned(Vec::new()),
    };
    let part = |which: &str| format!("layers.0.attention.{which}.weight");
    let with = |shape: [usize; 2]| Tensors::from(["q", "k", "v"].map(|w| (part(w), empty(shape))));
    let fused = to_theirs(Family::Gpt2, &with([0, usize::MAX])).unwrap();
    assert!(fused.values().all(|tensor| tensor.shape == [usize::MAX, 0]));
    let found = to_theirs(Family::Gpt2, &with([usize::MAX, 0])).unwrap_err();
    assert!(matches!(found, Error::Shape { parts: 3, .. }), "{found}");
}

#[test]
fn gpt2_fuses_and_transposes() {
    let ours = Tensors::from([
        ("layers.0.attention.q.weight".to_string(), f32s(&[2, 2], 0)),
        ("layers.0.attention.k.weight".to_string(), f32s(&[2, 2], 10)),
        ("layers.0.attention.v.weight".to_string(), f32s(&[2, 2], 20)),
    ]);
    let theirs = to_theirs(Family::Gpt2, &ours).unwrap();
    let fused = &theirs["transformer.h.0.attn.c_attn.weight"];
    assert_eq!((theirs.len(), fused.shape.as_slice()), (1, &[2, 6][..]));
    assert_eq!(values(fused), [0., 2., 10., 12., 20., 22., 1., 3., 11., 13., 21., 23.]);
}

#[test]
fn identity_borrows() {
    let bytes = [0u8; 16];
    let tensor = Tensor { dtype: DType::F32, shape: vec![2, 2], data: Cow::Borrowed(&bytes[..]) };
    let ours = Tensors::from([("norm.weight".to_string(), tensor)]);
    let theirs = to_theirs(Family::Llama, &ours).unwrap();
    assert!(matches!(theirs["model.norm.weight"].data, Cow::Borrowed(_)));
}

#[test]
fn says_what_does_not_fit() {
    let check = |family, tensors: &[(&str, &[usize])], message: &str| {
        let ours = tensors.iter().map(|(name, shape)| (name.to_string(), f32s(shape, 0))).collect();
        assert_eq!(to_theirs(family, &ours).unwrap_err().to_string(), message);
    };
    check(
        Family::Llama,
        &[("position_embedding.weight", &[2, 2])],
        "Llama has no place for tensor `position_embedding.weight`",
    );
    check(
        Family::Llama,
        &[("layers.x.attention.q.weight", &[2, 2])],
        "Llama has no place for tensor `layers.x.attention.q.weight`",
    );
    check(
        Family::Gpt2,
        &[("layers.0.attention.q.bias", &[2]), ("layers.0.attention.k.bias", &[2])],
        "`transformer.h.0.attn.c_attn.bias` is made of several tensors, and \
         `layers.0.attention.v.bias` is missing",
    );
    check(
        Family::Gpt2,
        &[("layers.0.attention.o.weight", &[2])],
        "`transformer.h.0.attn.c_proj.weight` cannot be made of, or divided into, 1 parts: \
         `transformer.h.0.attn.c_proj.weight` is [2]",
    );
}
