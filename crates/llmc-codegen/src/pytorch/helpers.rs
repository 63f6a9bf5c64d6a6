//! Short functions that come along where a composite has no counterpart in PyTorch.

use crate::python::Block;

/// A function of the emitted file; only those that are used are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Helper {
    /// The frequencies of rotary embedding.
    RotaryFrequencies,
    /// Their stretching for Llama 3.
    Llama3Frequencies,
    /// Rotary embedding itself.
    ApplyRotary,
    /// Scaled dot-product attention; its text depends on [`AttentionUse`].
    Attention,
    /// Gather along an axis with batch axes.
    Gather,
    /// The reverse of gather.
    ScatterAdd,
    /// Overwrites a part of an axis.
    UpdateSlice,
    /// Integer quotient with a result for every divisor.
    IntegerDivide,
    /// Integer remainder with a result for every divisor.
    IntegerRemainder,
    /// Left shift by any amount.
    ShiftLeft,
    /// Right shift by any amount.
    ShiftRight,
    /// Random words by counter.
    RandomBits,
    /// Runs a function while a condition holds.
    WhileLoop,
    /// Runs a function over the slices of an axis.
    Scan,
}

impl Helper {
    /// Its name in the text.
    pub fn name(self) -> &'static str {
        match self {
            Helper::RotaryFrequencies => "rotary_frequencies",
            Helper::Llama3Frequencies => "llama3_frequencies",
            Helper::ApplyRotary => "apply_rotary",
            Helper::Attention => "attention",
            Helper::Gather => "gather",
            Helper::ScatterAdd => "scatter_add",
            Helper::UpdateSlice => "update_slice",
            Helper::IntegerDivide => "integer_divide",
            Helper::IntegerRemainder => "integer_remainder",
            Helper::ShiftLeft => "shift_left",
            Helper::ShiftRight => "shift_right",
            Helper::RandomBits => "random_bits",
            Helper::WhileLoop => "while_loop",
            Helper::Scan => "scan",
        }
    }

    /// Every helper, in the order in which they are written.
    pub const ALL: [Helper; 14] = [
        Helper::RotaryFrequencies,
        Helper::Llama3Frequencies,
        Helper::ApplyRotary,
        Helper::Attention,
        Helper::Gather,
        Helper::ScatterAdd,
        Helper::UpdateSlice,
        Helper::IntegerDivide,
        Helper::IntegerRemainder,
        Helper::ShiftLeft,
        Helper::ShiftRight,
        Helper::RandomBits,
        Helper::WhileLoop,
        Helper::Scan,
    ];

    /// Its text.
    pub fn text(self, attention: &AttentionUse) -> String {
        match self {
            Helper::RotaryFrequencies => ROTARY_FREQUENCIES.to_string(),
            Helper::Llama3Frequencies => LLAMA3_FREQUENCIES.to_string(),
            Helper::ApplyRotary => APPLY_ROTARY.to_string(),
            Helper::Attention => attention.text(),
            Helper::Gather => GATHER.to_string(),
            Helper::ScatterAdd => SCATTER_ADD.to_string(),
            Helper::UpdateSlice => UPDATE_SLICE.to_string(),
            Helper::IntegerDivide => INTEGER_DIVIDE.to_string(),
            Helper::IntegerRemainder => INTEGER_REMAINDER.to_string(),
            Helper::ShiftLeft => SHIFT_LEFT.to_string(),
            Helper::ShiftRight => SHIFT_RIGHT.to_string(),
            Helper::RandomBits => RANDOM_BITS.to_string(),
            Helper::WhileLoop => WHILE_LOOP.to_string(),
            Helper::Scan => SCAN.to_string(),
        }
    }
}

/// Which features of attention a module uses: the text holds no others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttentionUse {
    /// Some attention is causal.
    pub is_causal: bool,
    /// Some attention is not.
    pub is_bidirectional: bool,
    /// Some attention has a window.
    pub has_window: bool,
    /// Some attention has a scale of its own.
    pub has_scale: bool,
    /// Some attention has segments.
    pub has_segments: bool,
    /// Some attention has other segments for keys than for queries.
    pub has_key_segments: bool,
    /// Some attention has fewer key-value heads than heads.
    pub has_groups: bool,
    /// Some attention has another number of keys than queries.
    pub has_key_length: bool,
}

impl AttentionUse {
    fn text(&self) -> String {
        let mut parameters = vec!["q", "k", "v"];
        if self.has_segments {
            parameters.push("segments=None");
        }
        if self.has_key_segments {
            parameters.push("key_segments=None");
        }
        if self.is_bidirectional {
            parameters.push("causal=True");
        }
        if self.has_window {
            parameters.push("window=None");
        }
        if self.has_scale {
            parameters.push("scale=None");
        }
        let keys = if self.has_key_length { "S" } else { "T" };
        let kv_heads = if self.has_groups { "K" } else { "H" };
        let mut rules = Vec::new();
        if self.is_causal {
            rules.push("not after the query");
        }
        if self.has_window {
            rules.push("less than `window` back");
        }
        if self.has_segments {
            rules.push("of its segment");
        }
        let rules = match rules.is_empty() {
            true => String::new(),
            false => format!(" to keys {}", rules.join(", ")),
        };
        let mut shapes = format!("q: [B, T, H, D]; k, v: [B, {keys}, {kv_heads}, D]");
        if self.has_segments {
            shapes.push_str("; segments: [B, T]");
        }
        if self.has_key_segments {
            shapes.push_str(&format!("; key_segments: [B, {keys}]"));
        }

        let mut out = Block::new(0);
        out.line(&format!("def attention({}):", parameters.join(", ")));
        out.indent();
        let doc =
            format!("Scaled dot-product attention{rules}.\n\n{shapes}; returns [B, T, H, D].");
        out.docstring(&doc);
        out.line("q, k, v = q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)");
        let (lines, mask) = self.mask();
        lines.iter().for_each(|line| out.line(line));
        let mut arguments = vec!["q", "k", "v"];
        arguments.extend(mask);
        if self.has_scale {
            arguments.push("scale=scale");
        }
        if self.has_groups {
            arguments.push("enable_gqa=True");
        }
        let arguments = arguments.join(", ");
        out.line(&format!("y = F.scaled_dot_product_attention({arguments})"));
        out.line("return y.transpose(1, 2)");
        out.finish()
    }

    /// The lines that make the mask, and the arguments that pass it on.
    fn mask(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        // With fewer or more keys than queries, `is_causal` would count from the first key.
        let is_plain = !self.has_window && !self.has_key_length && !self.has_key_segments;
        match (self.is_causal, self.is_bidirectional, self.has_segments) {
            (false, true, false) if !self.has_window => {
                return (Vec::new(), vec!["is_causal=causal"]);
            }
            (true, false, false) if is_plain => return (Vec::new(), vec!["is_causal=True"]),
            (true, false, true) if is_plain => {
                let lines = vec![
                    "visible = None",
                    "if segments is not None:",
                    "    same = segments[:, None, :, None] == segments[:, None, None, :]",
                    "    visible = same & torch.ones_like(same).tril()",
                ];
                return (lines, vec!["attn_mask=visible", "is_causal=visible is None"]);
            }
            _ => {}
        }
        let mut lines = vec![
            "n_queries, n_keys = q.shape[2], k.shape[2]",
            "i = torch.arange(n_keys - n_queries, n_keys, device=q.device)[:, None]",
            "j = torch.arange(n_keys, device=q.device)",
        ];
        if self.is_bidirectional {
            lines.push("visible = torch.ones_like(i - j, dtype=torch.bool)");
        }
        match self.is_bidirectional {
            true => lines.extend(["if causal:", "    visible = j <= i"]),
            false => lines.push("visible = j <= i"),
        }
        if self.has_window {
            lines.extend(["if window is not None:", "    visible = visible & (i - j < window)"]);
        }
        if self.has_key_segments {
            lines.extend(["if key_segments is None:", "    key_segments = segments"]);
        }
        if self.has_segments {
            lines.extend([
                "if segments is not None:",
                match self.has_key_segments {
                    true => {
                        "    same = segments[:, None, :, None] == key_segments[:, None, None, :]"
                    }
                    false => "    same = segments[:, None, :, None] == segments[:, None, None, :]",
                },
                "    visible = visible & same",
            ]);
        }
        (lines, vec!["attn_mask=visible"])
    }
}

const ROTARY_FREQUENCIES: &str = r#"def rotary_frequencies(head_dim, theta, device=None):
    """Radians per position of each pair of a rotary embedding, in float64: [head_dim / 2]."""
    i = torch.arange(0, head_dim, 2, dtype=torch.float64, device=device)
    return theta ** (-i / head_dim)
"#;

const LLAMA3_FREQUENCIES: &str = r#"def llama3_frequencies(frequencies, factor, low_freq_factor, high_freq_factor, context_length):
    """Divides low frequencies by `factor` and keeps high ones, with a smooth ramp between."""
    wavelength = 2 * math.pi / frequencies
    ramp = (context_length / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor)
    ramp = ramp.clamp(0, 1)
    return frequencies * (ramp + (1 - ramp) / factor)
"#;

const APPLY_ROTARY: &str = r#"def apply_rotary(x, positions, frequencies):
    """Rotates each pair (x[i], x[i + D/2]) by positions * frequencies[i].

    x: [B, T, H, D]; positions: [B, T]; frequencies: [D / 2]; returns [B, T, H, D].
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    angle = positions[:, :, None, None].to(dtype) * frequencies.to(dtype)
    cos, sin = angle.cos(), angle.sin()
    x1, x2 = x.to(dtype).chunk(2, dim=-1)
    return torch.cat((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1).to(x.dtype)
"#;

const GATHER: &str = r#"def gather(x, ids, axis, batch_dims=0):
    """The slices of `axis` of x that ids name; the first `batch_dims` axes of both go along."""
    b = batch_dims
    rows = x.movedim(axis, b)
    index = [torch.arange(n, device=x.device).view([-1] + [1] * (ids.ndim - i - 1))
             for i, n in enumerate(ids.shape[:b])]
    y = rows[(*index, ids.long())]
    return y.movedim(list(range(ids.ndim, ids.ndim + axis - b)), list(range(b, axis)))
"#;

const SCATTER_ADD: &str = r#"def scatter_add(x, ids, updates, axis, batch_dims=0):
    """Adds updates to the slices of `axis` of x that ids name: the reverse of gather."""
    b = batch_dims
    rows = x.movedim(axis, b).clone()
    index = [torch.arange(n, device=x.device).view([-1] + [1] * (ids.ndim - i - 1))
             for i, n in enumerate(ids.shape[:b])]
    y = updates.movedim(list(range(b, axis)), list(range(ids.ndim, ids.ndim + axis - b)))
    rows.index_put_((*index, ids.long()), y, accumulate=True)
    return rows.movedim(b, axis)
"#;

const UPDATE_SLICE: &str = r#"def update_slice(x, update, start, axis):
    """x with update written along `axis` from index start on, which may differ from row to row."""
    if torch.is_tensor(start) and start.dim():
        rows = [update_slice(*row, axis - 1) for row in zip(x, update, start)]
        return torch.stack(rows)
    index = start + torch.arange(update.shape[axis], device=x.device)
    return x.index_copy(axis, index, update)
"#;

const INTEGER_DIVIDE: &str = r#"def integer_divide(a, b):
    """The quotient, truncated; all bits set where b is 0. Integers wrap."""
    x, y = a.long(), b.long()
    plain = torch.div(x, torch.where((y == 0) | (y == -1), 1, y), rounding_mode="trunc")
    return torch.where(y == 0, -1, torch.where(y == -1, -x, plain)).to(a.dtype)
"#;

const INTEGER_REMAINDER: &str = r#"def integer_remainder(a, b):
    """The remainder of the truncated quotient; a where b is 0."""
    x, y = a.long(), b.long()
    plain = torch.fmod(x, torch.where((y == 0) | (y == -1), 1, y))
    return torch.where(y == 0, x, plain).to(a.dtype)
"#;

const SHIFT_LEFT: &str = r#"def shift_left(a, b, bits):
    """a << b, and 0 where b is not in 0..bits."""
    fits = (b >= 0) & (b < bits)
    return torch.where(fits, a << torch.where(fits, b, 0), 0)
"#;

const SHIFT_RIGHT: &str = r#"def shift_right(a, b, bits):
    """a >> b, and all sign bits where b is not in 0..bits."""
    fits = (b >= 0) & (b < bits)
    return torch.where(fits, a >> torch.where(fits, b, 0), torch.where(a < 0, -1, 0))
"#;

const RANDOM_BITS: &str = r#"def random_bits(key, step, sample, shape):
    """Random 32-bit words by Philox4x32-10, in int64: [B, *shape].

    Element e of a sample is word e % 4 of the block with counter (e // 4, 0, sample, step).
    """
    n = math.prod(shape)
    block = torch.arange((n + 3) // 4, device=sample.device).expand(len(sample), -1)
    words = [block & 0xFFFFFFFF, block >> 32, sample[:, None].expand_as(block), step.expand_as(block)]
    k0, k1 = key[0], key[1]

    def multiply(a, b):
        low = a * (b & 0xFFFF)
        high = a * (b >> 16) + (low >> 16)
        return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)

    for _ in range(10):
        high0, low0 = multiply(0xD2511F53, words[0])
        high1, low1 = multiply(0xCD9E8D57, words[2])
        words = [high1 ^ words[1] ^ k0, low1, high0 ^ words[3] ^ k1, low0]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return torch.stack(words, dim=-1).flatten(1)[:, :n].reshape(len(sample), *shape)
"#;

const WHILE_LOOP: &str = r#"def while_loop(condition, body, values):
    """Applies body to values as long as condition(*values) holds; returns a tuple."""
    while condition(*values):
        values = body(*values)
        values = values if isinstance(values, tuple) else (values,)
    return values
"#;

const SCAN: &str = r#"def scan(body, carry, xs, reverse=False):
    """Applies body to carry and each slice of xs; returns the carry and the stacked results."""
    n, results = len(xs[0]), []
    for i in reversed(range(n)) if reverse else range(n):
        values = body(*carry, *(x[i] for x in xs))
        values = values if isinstance(values, tuple) else (values,)
        carry = values[: len(carry)]
        results.append(values[len(carry) :])
    stacked = (torch.stack(column) for column in zip(*(reversed(results) if reverse else results)))
    return *carry, *stacked
"#;
