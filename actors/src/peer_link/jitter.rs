use uuid::Uuid;

/// A number between -1 and 1 from the operating system's randomness.
pub(crate) fn jitter() -> f64 {
    let bits = (Uuid::new_v4().as_u128() & u128::from(u32::MAX)) as u32;
    f64::from(bits) / f64::from(u32::MAX) * 2.0 - 1.0
}
