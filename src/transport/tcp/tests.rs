//! The engine as a whole: conformance, cuts, strangers, limits.

mod beds;

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
