//! Pausing one object by annotation.

use kube::Resource;

/// Whether `object` carries the annotation `key`, with any value but `false`.
///
/// Cluster API's rule is presence alone (`cluster.x-k8s.io/paused`); people who write `"false"` mean it, so that one
/// value counts as absent.
pub fn is_paused_by(object: &impl Resource, key: &str) -> bool {
    object
        .meta()
        .annotations
        .as_ref()
        .and_then(|all| all.get(key))
        .is_some_and(|value| value != "false")
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    #[test]
    fn presence_pauses_unless_it_says_false() {
        let mut object = ConfigMap::default();
        assert!(!is_paused_by(&object, "example.com/paused"));
        for (value, paused) in [("", true), ("true", true), ("false", false)] {
            object.metadata.annotations = Some([("example.com/paused".to_owned(), value.to_owned())].into());
            assert_eq!(is_paused_by(&object, "example.com/paused"), paused, "{value:?}");
        }
    }
}
