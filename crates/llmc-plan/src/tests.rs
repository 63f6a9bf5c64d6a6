//! Plans must never let two live buffers share a word.
