//! The f32 functions that fix the bits of the project.
