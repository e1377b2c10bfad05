//! Just enough XML to answer in EC2's protocol.

/// The namespace of the API version that SDKs send.
const NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// A document under construction.
pub(crate) struct Xml(String);

impl Xml {
    pub(crate) fn document() -> Self {
        Self(String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"))
    }

    /// The answer to `action`: its root element, request id first.
    pub(crate) fn response<R>(
        action: &str,
        request_id: &str,
        content: impl FnOnce(&mut Self) -> R,
    ) -> (String, R) {
        let mut xml = Self::document();
        for part in ["<", action, "Response xmlns=\"", NAMESPACE, "\">"] {
            xml.0.push_str(part);
        }
        xml.element("requestId", request_id);
        let result = content(&mut xml);
        xml.close(&format!("{action}Response"));
        (xml.finish(), result)
    }

    pub(crate) fn element(&mut self, name: &str, text: &str) {
        self.open(name);
        self.text(text);
        self.close(name);
    }

    /// An element that is left out when there is nothing to say.
    pub(crate) fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text {
            self.element(name, text);
        }
    }

    pub(crate) fn group(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.open(name);
        content(self);
        self.close(name);
    }

    /// A list: `<name><item>…</item>…</name>`.
    pub(crate) fn items<T>(
        &mut self,
        name: &str,
        items: impl IntoIterator<Item = T>,
        mut content: impl FnMut(&mut Self, T),
    ) {
        self.group(name, |xml| {
            for item in items {
                xml.group("item", |xml| content(xml, item));
            }
        });
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }

    fn open(&mut self, name: &str) {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
    }

    fn close(&mut self, name: &str) {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                c => self.0.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_out_of_its_element() {
        let (body, ()) = Xml::response("Do", "r-1", |xml| xml.element("a", "<b>&\"</b>"));
        assert!(body.contains("<a>&lt;b&gt;&amp;&quot;&lt;/b&gt;</a>"), "{body}");
        assert!(body.ends_with("</DoResponse>"));
    }
}
