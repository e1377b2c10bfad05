use super::*;

#[test]
fn references_are_split_at_the_tag_and_nowhere_else() {
    assert_eq!(split_reference("a/b:1"), ("a/b", Some("1")));
    assert_eq!(split_reference("host:5000/b"), ("host:5000/b", Some("latest")));
    assert_eq!(split_reference("a@sha256:00"), ("a@sha256:00", None));
}
