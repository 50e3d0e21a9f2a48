//! A host's side of Longshore. So far: the proxy, a process of its own that owns published ports.

pub mod proxy;
