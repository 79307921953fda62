//! A site on loopback: real web servers, a real balancer before them, visitors whose truth is known.
