//! The engine as a whole: conformance, cuts, silence, strangers, and what members may not do.

pub(in crate::transport) mod beds;
mod cuts;
mod debts;
mod fake;
mod members;
mod proxy;
mod silence;
mod strangers;

/// Bytes as they are.
mod plain {
    crate::transport::conformance::conformance!(super::beds::Plain);
}

/// Every byte sealed.
mod encrypted {
    crate::transport::conformance::conformance!(super::beds::Encrypted);
}

/// Over the newer protocol.
mod version_six {
    crate::transport::conformance::conformance!(super::beds::Six);
}
