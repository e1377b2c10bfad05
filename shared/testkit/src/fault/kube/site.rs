//! What a request to an apiserver is about, read from its path.

use http::{Method, Uri};

use crate::fault::plan::{Call, Kind};

/// Names the site of a request: verb, resource and subresource, without names and namespaces.
///
/// Verbs are the HTTP methods, with `LIST`, `WATCH` and `DELETECOLLECTION` told apart.
pub fn call(method: &Method, uri: &Uri) -> Call {
    let path = Path::parse(uri.path());
    let watching = uri.query().is_some_and(|query| {
        query
            .split('&')
            .any(|pair| pair == "watch=true" || pair == "watch=1")
    });
    let collection = path.resource.is_some() && !path.named;
    let (verb, kind) = match (method, collection) {
        (&Method::GET, _) if watching => ("WATCH", Kind::Watch),
        (&Method::GET, true) => ("LIST", Kind::List),
        (&Method::POST, _) => ("POST", Kind::Create),
        (&Method::PUT | &Method::PATCH, _) => (method.as_str(), Kind::Update),
        (&Method::DELETE, true) => ("DELETECOLLECTION", Kind::Delete),
        (&Method::DELETE, false) => ("DELETE", Kind::Delete),
        _ => (method.as_str(), Kind::Read),
    };
    let site = match (&path.resource, &path.subresource) {
        (None, _) => format!("{verb} {}", uri.path()),
        (Some(resource), None) => format!("{verb} {resource}"),
        (Some(resource), Some(subresource)) => format!("{verb} {resource}/{subresource}"),
    };
    let list = (kind == Kind::List).then(|| uri.path_and_query().map_or("/", |p| p.as_str()).to_owned());
    Call { site, kind, list }
}

#[derive(Debug, Default)]
struct Path<'a> {
    resource: Option<&'a str>,
    subresource: Option<&'a str>,
    named: bool,
}

impl<'a> Path<'a> {
    fn parse(path: &'a str) -> Self {
        let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (["api", _, rest @ ..] | ["apis", _, _, rest @ ..]) = segments.as_slice() else {
            return Self::default();
        };
        let rest = match rest {
            // A namespace's own subresources look like a resource in it.
            ["namespaces", _, "status" | "finalize"] => rest,
            ["namespaces", _, inner @ ..] if !inner.is_empty() => inner,
            _ => rest,
        };
        Self {
            resource: rest.first().copied(),
            named: rest.len() > 1,
            subresource: rest.get(2).copied(),
        }
    }
}
