//! The balancer.

pub mod acl;
