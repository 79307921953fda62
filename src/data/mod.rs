//! The data plane: listeners, servers and the bytes between them.

pub mod balancer;
pub mod checks;
pub mod names;
pub mod pool;
pub mod relay;
mod slab;
pub mod snapshot;
pub mod tls;
