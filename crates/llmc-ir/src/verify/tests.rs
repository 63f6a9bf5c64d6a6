//! Each check is shown to catch what only it catches.
