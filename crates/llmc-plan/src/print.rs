//! A plan as text: one line per launch, as `llmc` shows it and golden files keep it.

use crate::{Kernel, Plan, View};
use std::fmt::{Display, Formatter, Result};

/// `f32[8, 16]@640`: type, shape, and the first word.
impl Display for View {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "{}{:?}@{}", self.dtype, self.shape, self.region.range().start)
    }
}

impl Display for Kernel {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        match self {
            Kernel::Copy => write!(f, "copy"),
            Kernel::Gemm(g) => write!(f, "gemm {}x{}x{}", g.m, g.n, g.k),
            Kernel::Native => write!(f, "native"),
            Kernel::Scale => write!(f, "scale"),
            Kernel::ScaledStep => write!(f, "scaled step"),
            Kernel::NormGrad => write!(f, "norm grad"),
            Kernel::Evaluate => write!(f, "evaluate"),
        }
    }
}

/// Scope and op, the kernel, operands and results of every launch.
impl Display for Plan {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let names = |views: &[(String, View)]| match views {
            [] => "none".to_string(),
            _ => views.iter().map(|(n, v)| format!("{n} {v}")).collect::<Vec<_>>().join(", "),
        };
        let list =
            |views: &[View]| views.iter().map(View::to_string).collect::<Vec<_>>().join(", ");
        writeln!(f, "inputs   {}", names(&self.inputs))?;
        writeln!(f, "outputs  {}", names(&self.outputs))?;
        writeln!(f, "frame    {} words from word {}", self.frame_words, self.frame_start)?;
        writeln!(f, "work     {} FLOPs in {} launches", self.flops, self.launches.len())?;
        for launch in &self.launches {
            let (_, _, scope) = &launch.origin;
            let colon = if scope.is_empty() { "" } else { ": " };
            let (op, kernel) = (launch.op.name(), &launch.kernel);
            let (operands, results) = (list(&launch.operands), list(&launch.results));
            writeln!(f, "{scope}{colon}{op} ({kernel})  {operands} -> {results}")?;
        }
        Ok(())
    }
}
