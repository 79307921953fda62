//! Several streams in time order become one.
