//! The admission policies of an operator as one template.
//!
//! Their source is what clusterctl installs, with its fixed names and variables: here names carry the release, and
//! variables become values.

use anyhow::{Result, ensure};

use super::ORIGIN;

/// What stands in the source, and what a chart has instead. Longer texts first: one contains another.
const CHANGES: [(&str, &str); 7] = [
    (
        "CAPDKC_HOST_PATHS in clusterctl's configuration holds",
        "The value policies.hostPaths holds",
    ),
    ("capdkc-system", "{{ .Release.Namespace }}"),
    (
        "${CAPDKC_HOST_PATHS:=none}",
        "{{ join \",\" .Values.policies.hostPaths | default \"none\" | quote }}",
    ),
    (
        "capdkc-immutable-templates",
        "{{ include \"operator.fullname\" . }}-immutable-templates",
    ),
    (
        "capdkc-host-paths",
        "{{ include \"operator.fullname\" . }}-host-paths",
    ),
    (
        "\nmetadata:\n",
        "\nmetadata:\n  labels:\n    {{- include \"operator.labels\" . | nindent 4 }}\n",
    ),
    (
        "\n  validationActions: [Deny]\n",
        "\n  validationActions: [Deny]\n  {{- include \"capdkc.policyScope\" . }}\n",
    ),
];

/// `templates/policies.yaml`.
pub(super) fn template(source: &str) -> Result<String> {
    ensure!(
        !source.contains("{{"),
        "the policies have braces, which a template would read as its own"
    );
    let mut text = source.to_owned();
    for (from, to) in CHANGES {
        ensure!(
            text.contains(from),
            "the policies have no {from:?} any more: tell shared/xtask/src/charts/policies.rs what there is instead"
        );
        text = text.replace(from, to);
    }
    ensure!(
        !text.contains("capdkc-") && !text.contains("${"),
        "the policies have a name or a variable that would be the same in every release"
    );
    Ok(format!(
        "{{{{- /* {ORIGIN} */ -}}}}\n{{{{- if .Values.policies.enabled }}}}\n{text}{{{{- end }}}}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    fn source() -> String {
        std::fs::read_to_string(workspace::root().join("operators/docker/config/policies.yaml")).unwrap()
    }

    #[test]
    fn every_policy_is_in_the_template_under_the_releases_name() {
        let source = source();
        let template = template(&source).unwrap();
        let count = |text: &str, what: &str| text.matches(what).count();
        for what in ["\nkind: ", "validations:", "validationActions:"] {
            assert_eq!(count(&template, what), count(&source, what), "{what}");
        }
        assert_eq!(count(&template, "operator.labels"), count(&source, "\nkind: "));
    }

    #[test]
    fn a_policy_with_a_name_of_its_own_is_noticed() {
        let added = source() + "---\nkind: ConfigMap\nmetadata:\n  name: capdkc-new\n";
        assert!(template(&added).is_err());
    }
}
