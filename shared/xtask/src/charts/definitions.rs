//! The definitions of an operator's kinds as one template.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::ORIGIN;

/// `templates/definitions.yaml`.
pub(super) fn template(definitions: &[CustomResourceDefinition]) -> Result<String> {
    let mut text = format!("{{{{- /* {ORIGIN} */ -}}}}\n{{{{- if .Values.crds.enabled }}}}\n");
    for crd in definitions {
        text += &definition(crd)?;
    }
    Ok(text + "{{- end }}\n")
}

/// A definition that Helm keeps when it is told to, and leaves alone when it is not the release's.
fn definition(crd: &CustomResourceDefinition) -> Result<String> {
    let spec = serde_saphyr::to_string(&serde_json::json!({ "spec": crd.spec }))
        .context("cannot write a definition as YAML")?;
    let name = crd.metadata.name.as_deref().unwrap_or_default();
    let mut labels = String::new();
    for (key, value) in crd.metadata.labels.iter().flatten() {
        // Writing to a String cannot fail.
        let _ = writeln!(labels, "    {key}: {value:?}");
    }
    // Descriptions may show Helm's own braces.
    let spec = spec.replace("{{", "{{ \"{{\" }}");
    Ok(format!(
        "{{{{- if include \"operator.ownsDefinition\" (dict \"root\" $ \"name\" {name:?}) }}}}\n---\napiVersion: \
         apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: {name}\n  labels:\n    {{{{- include \
         \"operator.definitionLabels\" . | nindent 4 }}}}\n{labels}  {{{{- if .Values.crds.keep }}}}\n  annotations:\n    \
         helm.sh/resource-policy: keep\n  {{{{- end }}}}\n{spec}{{{{- end }}}}\n",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crds;

    #[test]
    fn braces_in_a_description_are_text() {
        let mut crd = crds::all().remove(0);
        crd.spec.names.kind = "{{ .Values }}".into();
        assert!(definition(&crd).unwrap().contains("{{ \"{{\" }} .Values"));
    }
}
