//! Makes other versions of the changeling: shared by the tests that load it.

/// The component with another version and behaviour. `writes`: what else is written over, and with what.
///
/// # Panics
/// If something is not there, or would not fit.
pub fn version(component: &[u8], version: &str, behaviour: &str, writes: &[(&str, &str)]) -> Vec<u8> {
    let behaves = format!("changeling: {behaviour}");
    let mut all = vec![("1.0.7001", version), ("changeling: as it is....", behaves.as_str())];
    all.extend(writes);
    // All places are found before any is written to, so that two names may be exchanged.
    let mut found = Vec::new();
    for (from, to) in all {
        assert_eq!(from.len(), to.len(), "`{from}` is written over in place");
        let places = component.windows(from.len()).enumerate().filter(|(_, window)| *window == from.as_bytes());
        let places: Vec<_> = places.map(|(at, _)| (at, to)).collect();
        assert!(!places.is_empty(), "the changeling contains `{from}`");
        found.extend(places);
    }
    let mut bytes = component.to_vec();
    for (at, to) in found {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}
