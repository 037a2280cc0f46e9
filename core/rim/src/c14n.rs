//! Canonical XML of a subtree, without comments: inclusive (1.0, 1.1) and exclusive (1.0).

use std::collections::BTreeMap;

use crate::xml::{Element, Id, Node, Tree, XML};

/// Which canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Canonical XML 1.0 or 1.1: they differ only in what an inner element inherits, see [`canonical`].
    Inclusive,
    /// Exclusive canonical XML 1.0, without a list of inclusive prefixes.
    Exclusive,
}

type Namespaces = BTreeMap<String, String>;

/// The canonical form of an element and all within it but `without`.
///
/// `None` where the two inclusive versions could differ: an element around it has another `xml:` attribute than
/// `xml:lang` or `xml:space`.
pub(crate) fn canonical(tree: &Tree, apex: Id, method: Method, without: Option<Id>) -> Option<String> {
    let mut scope = Namespaces::new();
    let mut inherited: Vec<(String, String)> = Vec::new();
    let mut around = tree.get(apex)?.parent;
    while let Some(element) = around.and_then(|id| tree.get(id)) {
        for (prefix, uri) in &element.declared {
            scope.entry(prefix.clone()).or_insert_with(|| uri.clone());
        }
        for attribute in element.attributes.iter().filter(|a| a.ns == XML) {
            if method == Method::Inclusive {
                if !matches!(attribute.local.as_str(), "lang" | "space") {
                    return None;
                }
                if !inherited.iter().any(|(name, _)| *name == attribute.qname) {
                    inherited.push((attribute.qname.clone(), attribute.value.clone()));
                }
            }
        }
        around = element.parent;
    }
    let mut writer = Writer { tree, method, without, out: String::new() };
    writer.element(apex, &scope, &Namespaces::new(), &inherited)?;
    Some(writer.out)
}

struct Writer<'a> {
    tree: &'a Tree,
    method: Method,
    without: Option<Id>,
    out: String,
}

impl Writer<'_> {
    /// `scope`: the namespaces in scope around it; `written`: those that the output around it declares. As deep as the
    /// tree, which is bounded.
    fn element(
        &mut self,
        id: Id,
        scope: &Namespaces,
        written: &Namespaces,
        inherited: &[(String, String)],
    ) -> Option<()> {
        let element = self.tree.get(id)?;
        let mut scope = scope.clone();
        scope.extend(element.declared.iter().cloned());
        let mut written = written.clone();
        self.out.push('<');
        self.out.push_str(&element.qname);
        for (prefix, uri) in self.shown(element, &scope) {
            // Nothing declared is the same as the default set to nothing.
            if written.get(&prefix).map_or("", String::as_str) == uri {
                continue;
            }
            let name = if prefix.is_empty() { "xmlns".to_owned() } else { format!("xmlns:{prefix}") };
            self.attribute(&name, &uri);
            written.insert(prefix, uri);
        }
        self.attributes(element, inherited);
        self.out.push('>');
        for node in &element.children {
            match node {
                Node::Element(child) if Some(*child) == self.without => {}
                Node::Element(child) => self.element(*child, &scope, &written, &[])?,
                Node::Text(text) => self.text(text),
            }
        }
        self.out.push_str("</");
        self.out.push_str(&element.qname);
        self.out.push('>');
        Some(())
    }

    /// The namespaces that the method shows at an element, in the order of prefixes, the default first.
    fn shown(&self, element: &Element, scope: &Namespaces) -> Namespaces {
        let of = |prefix: &str| (prefix.to_owned(), scope.get(prefix).cloned().unwrap_or_default());
        if self.method == Method::Inclusive {
            let mut all = scope.clone();
            all.entry(String::new()).or_default();
            return all;
        }
        let own = element.qname.split_once(':').map_or("", |(prefix, _)| prefix);
        let used =
            element.attributes.iter().filter_map(|a| a.qname.split_once(':')).map(|(prefix, _)| prefix);
        used.chain([own]).filter(|prefix| *prefix != "xml").map(of).collect()
    }

    /// Attributes in the order of namespace and local name.
    fn attributes(&mut self, element: &Element, inherited: &[(String, String)]) {
        let mut all: Vec<(&str, &str, &str, &str)> = element
            .attributes
            .iter()
            .map(|a| (a.ns.as_str(), a.local.as_str(), a.qname.as_str(), a.value.as_str()))
            .collect();
        for (qname, value) in inherited {
            let local = qname.split_once(':').map_or(qname.as_str(), |(_, local)| local);
            if element.attribute(XML, local).is_none() {
                all.push((XML, local, qname, value));
            }
        }
        all.sort_unstable();
        for (_, _, qname, value) in all {
            self.attribute(qname, value);
        }
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        for c in value.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '"' => self.out.push_str("&quot;"),
                '\t' => self.out.push_str("&#x9;"),
                '\n' => self.out.push_str("&#xA;"),
                '\r' => self.out.push_str("&#xD;"),
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn text(&mut self, text: &str) {
        for c in text.chars() {
            match c {
                '&' => self.out.push_str("&amp;"),
                '<' => self.out.push_str("&lt;"),
                '>' => self.out.push_str("&gt;"),
                '\r' => self.out.push_str("&#xD;"),
                c => self.out.push(c),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(xml: &str, apex: &str, method: Method) -> Option<String> {
        let tree = Tree::parse(xml.as_bytes()).unwrap();
        let (id, _) = tree.elements().find(|(_, e)| e.local == apex).unwrap();
        canonical(&tree, id, method, None)
    }

    // Expected forms are worked out by hand from the specifications' rules.
    #[test]
    fn whole_documents() {
        let messy = "<?xml version='1.0'?>\n<!-- c --><a  z='1' b:y=\"&lt;&quot;'\t&#9;>\" a='2' xmlns:b='urn:b'\n xmlns='urn:a' ><!-- c --><c   /> x &amp; &#13;&gt;\r\n<d xmlns=''><e xmlns=''/></d><f xmlns='urn:a' xmlns:b='urn:b'/></a >\n";
        let wanted = "<a xmlns=\"urn:a\" xmlns:b=\"urn:b\" a=\"2\" z=\"1\" b:y=\"&lt;&quot;' &#x9;>\"><c></c> x &amp; &#xD;&gt;\n<d xmlns=\"\"><e></e></d><f></f></a>";
        assert_eq!(form(messy, "a", Method::Inclusive).unwrap(), wanted);
        assert_eq!(form(messy, "a", Method::Exclusive).unwrap(), wanted);
    }

    #[test]
    fn inner_elements() {
        let xml = "<a xmlns='urn:a' xmlns:b='urn:b' xmlns:c='urn:c' xml:lang='en'><b:i c:x='1'><b:j/><k/></b:i></a>";
        assert_eq!(
            form(xml, "i", Method::Inclusive).unwrap(),
            "<b:i xmlns=\"urn:a\" xmlns:b=\"urn:b\" xmlns:c=\"urn:c\" xml:lang=\"en\" c:x=\"1\"><b:j></b:j><k></k></b:i>"
        );
        assert_eq!(
            form(xml, "i", Method::Exclusive).unwrap(),
            "<b:i xmlns:b=\"urn:b\" xmlns:c=\"urn:c\" c:x=\"1\"><b:j></b:j><k xmlns=\"urn:a\"></k></b:i>"
        );
        let based = xml.replace("xml:lang", "xml:base");
        assert_eq!(form(&based, "i", Method::Inclusive), None);
        assert!(form(&based, "i", Method::Exclusive).is_some());
    }
}
