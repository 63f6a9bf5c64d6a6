//! Tests of the table: paths are unique, rules work, and it fits the typed structs.

use super::*;
use crate::spec::Spec;

#[test]
fn no_name_means_two_fields() {
    let mut seen = BTreeMap::new();
    for field in fields() {
        for path in [field.path].iter().chain(field.aliases) {
            if let Some(other) = seen.insert(*path, field.path) {
                panic!("`{path}` is {other} and {}", field.path);
            }
        }
    }
}

#[test]
fn every_path_starts_with_its_section_and_has_a_text() {
    for field in fields() {
        let _ = field.section();
        assert!(field.doc.ends_with('.') && field.doc.len() > 5, "{}", field.path);
    }
}

#[test]
fn conditions_name_fields_and_words_that_exist() {
    for field in fields() {
        let Some(condition) = field.applies else { continue };
        let other = find(condition.path).unwrap();
        let Kind::Choice(choices) = other.kind else { panic!("{}", field.path) };
        for word in condition.any_of {
            assert!(choices.iter().any(|c| c.name == *word), "{}: {word}", field.path);
        }
    }
}

#[test]
fn shorthands_cover_fields_that_exist() {
    for field in fields() {
        if let DefaultRule::Shorthand { covers, .. } = field.default {
            for path in covers {
                assert_eq!(find(path).unwrap().path, *path);
            }
        }
    }
}

#[test]
fn defaults_are_values_that_their_fields_take() {
    for field in fields() {
        let value = match field.default {
            DefaultRule::Is(lit) => lit.value(),
            DefaultRule::Nothing(_) => Value::Null,
            DefaultRule::Rule { compute, .. } => {
                let (spec, solved) = (Spec::default(), BTreeMap::new());
                match compute(&View::new(&spec, &solved)) {
                    Some(value) => value,
                    None => continue,
                }
            }
            _ => continue,
        };
        if value.is_null() {
            assert!(field.is_optional, "{} may be nothing", field.path);
            continue;
        }
        // A default reads back as itself.
        let text = format!(
            "[{}]\n{} = {}\n",
            field.section(),
            field.local_path(),
            crate::print::toml_value(&value)
        );
        let (_, diagnostics) = crate::parse(&text, crate::Format::Toml, "");
        let own = diagnostics.iter().find(|d| {
            let code = d.code.as_str();
            d.message.contains(field.path) && !matches!(code, "spec::missing" | "spec::conflict")
        });
        assert!(own.is_none(), "{text}{own:?}");
    }
}

#[test]
fn counts_have_short_names() {
    for (count, want) in [
        (2_608, "2.6k"),
        (999, "999"),
        (1_000, "1k"),
        (124_439_808, "124m"),
        (1_235_814_400, "1.2b"),
        (999_400, "999k"),
        (999_999, "1m"),
        (70_553_706_496, "71b"),
        (405_853_388_800, "406b"),
        (1_000_000_000_000, "1t"),
        (u64::MAX, "18446744t"),
    ] {
        assert_eq!(rules::short_count(count), want);
    }
}

/// Heads share keys and values as `attention` says, and see as far as the window says.
#[test]
fn a_window_goes_with_every_sharing_of_heads() {
    for (attention, n_kv_heads) in [("mha", 4), ("gqa", 2), ("mqa", 1)] {
        let text = format!(
            "[model]\nvocab_size = 64\nnum_layers = 1\nhidden_size = 64\nnum_heads = 4\n\
             num_kv_heads = {n_kv_heads}\nattention = \"{attention}\"\nsliding_window_size = 8\n"
        );
        let r = crate::testing::resolved(&text);
        let model = r.model.unwrap();
        assert_eq!(model.architecture.sliding_window, Some(8));
        assert_eq!(model.dims.num_kv_heads, n_kv_heads);
        // `solution.json` holds the values.
        assert_eq!(r.values["model.attention"], attention);
        assert_eq!(r.values["model.sliding_window_size"], 8);
    }
    let doc = find("model.attention").unwrap().doc;
    assert!(doc.contains("`sliding_window_size` applies to each of them"), "{doc}");
}
