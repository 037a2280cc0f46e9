//! The layer's tree in memory: names, and of each inode what its directory needs to know. Content and inodes of
//! everything but directories are on disk already.

use std::cell::Cell;
use std::collections::BTreeMap;

use cocoon_image::unpack::name::MAX_COMPONENT;

use crate::disk::FileType;
use crate::disk::inode::Meta;
use crate::disk::xattr::Xattrs;

use crate::output::Place;

/// Index of a node.
pub(crate) type Id = u32;
/// The root.
pub(crate) const ROOT: Id = 0;
/// Symbolic links followed in one look-up, as in Linux (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

/// One inode.
pub(crate) enum Node {
    /// Anything but a directory; its inode is written.
    Leaf(Leaf),
    /// A directory.
    Directory(Box<Directory>),
    /// Replaced; nothing names it any more.
    Gone,
}

pub(crate) struct Leaf {
    pub(crate) place: Place,
    pub(crate) links: u32,
    pub(crate) kind: FileType,
    /// The form of its inode.
    pub(crate) compact: bool,
    /// Where a symbolic link leads.
    pub(crate) target: Option<Box<[u8]>>,
}

#[derive(Default)]
pub(crate) struct Directory {
    pub(crate) parent: Id,
    pub(crate) children: BTreeMap<Box<[u8]>, Id>,
    pub(crate) meta: Meta,
    pub(crate) xattrs: Xattrs,
    /// Hides what lower layers have of it.
    pub(crate) opaque: bool,
    /// No entry describes it, and it is the one that lower layers have.
    pub(crate) implied: bool,
    /// There are implied ones below it.
    pub(crate) below: bool,
}

/// Why a path leads to no directory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// A part of it is not there.
    Absent,
    /// A part of it is something else.
    NotDirectory,
    /// It goes through too many symbolic links.
    Loop,
    /// A part of a link's target is too long.
    TooLong,
    /// All look-ups together took too long.
    Exhausted,
}

/// What [`Tree::make`] found or made.
pub(crate) enum Made {
    /// The directory.
    Directory(Id),
    /// A part of the path is something else than a directory in this layer.
    NotDirectory,
    /// A part of the path is a symbolic link that leads nowhere in this layer.
    Dangling,
}

pub(crate) struct Tree {
    nodes: Vec<Node>,
    /// Look-ups of one component that may still be made.
    steps: Cell<u64>,
}

impl Tree {
    /// A root alone. `steps` bounds the work of look-ups: a hostile layer can make each name a long way.
    pub(crate) fn new(steps: u64) -> Self {
        let root = Directory { meta: implied(), implied: true, ..Directory::default() };
        Tree { nodes: vec![Node::Directory(Box::new(root))], steps: Cell::new(steps) }
    }

    pub(crate) fn node(&self, id: Id) -> &Node {
        usize::try_from(id).ok().and_then(|i| self.nodes.get(i)).unwrap_or(&Node::Gone)
    }

    fn node_mut(&mut self, id: Id) -> Option<&mut Node> {
        usize::try_from(id).ok().and_then(|i| self.nodes.get_mut(i))
    }

    pub(crate) fn leaf_mut(&mut self, id: Id) -> Option<&mut Leaf> {
        match self.node_mut(id) {
            Some(Node::Leaf(leaf)) => Some(leaf),
            _ => None,
        }
    }

    pub(crate) fn directory(&self, id: Id) -> Option<&Directory> {
        match self.node(id) {
            Node::Directory(d) => Some(d),
            _ => None,
        }
    }

    pub(crate) fn directory_mut(&mut self, id: Id) -> Option<&mut Directory> {
        match self.node_mut(id) {
            Some(Node::Directory(d)) => Some(d),
            _ => None,
        }
    }

    /// All nodes in the order of their making.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (Id, &Node)> {
        (0..).zip(&self.nodes)
    }

    pub(crate) fn child(&self, directory: Id, name: &[u8]) -> Option<Id> {
        self.directory(directory)?.children.get(name).copied()
    }

    /// The type of what a name in a directory stands for.
    pub(crate) fn kind(&self, id: Id) -> FileType {
        match self.node(id) {
            Node::Leaf(leaf) => leaf.kind,
            Node::Directory(_) | Node::Gone => FileType::Directory,
        }
    }

    /// Puts a node under a name that is free.
    pub(crate) fn add(&mut self, directory: Id, name: &[u8], node: Node) -> Option<Id> {
        let id = Id::try_from(self.nodes.len()).ok()?;
        self.nodes.push(node);
        self.directory_mut(directory)?.children.insert(name.into(), id);
        Some(id)
    }

    /// Gives a leaf one more name, which is free.
    pub(crate) fn link(&mut self, directory: Id, name: &[u8], id: Id) {
        let Some(leaf) = self.leaf_mut(id) else { return };
        leaf.links = leaf.links.saturating_add(1);
        if let Some(d) = self.directory_mut(directory) {
            d.children.insert(name.into(), id);
        }
    }

    /// Makes a directory under a name. What else the name stood for goes; it hid what lower layers have there, so
    /// the directory does so too.
    pub(crate) fn add_directory(&mut self, above: Id, name: &[u8]) -> Option<Id> {
        let opaque = self.child(above, name).is_some();
        self.remove(above, name);
        let d =
            Directory { parent: above, meta: implied(), opaque, implied: !opaque, ..Directory::default() };
        self.add(above, name, Node::Directory(Box::new(d)))
    }

    /// Notes of directories that there are implied ones below them: in an image nobody looks elsewhere.
    pub(crate) fn note_implied(&mut self) {
        let implied: Vec<_> = self
            .nodes()
            .filter_map(|(_, node)| match node {
                Node::Directory(d) if d.implied => Some(d.parent),
                _ => None,
            })
            .collect();
        for mut id in implied {
            while let Some(d) = self.directory_mut(id)
                && !d.below
            {
                d.below = true;
                id = d.parent;
            }
        }
    }

    /// Removes a name with everything below it.
    pub(crate) fn remove(&mut self, directory: Id, name: &[u8]) {
        let Some(first) = self.directory_mut(directory).and_then(|d| d.children.remove(name)) else { return };
        let mut all = vec![first];
        while let Some(id) = all.pop() {
            let Some(node) = self.node_mut(id) else { continue };
            match node {
                Node::Leaf(leaf) if leaf.links > 1 => leaf.links -= 1,
                _ => {
                    if let Node::Directory(d) = std::mem::replace(node, Node::Gone) {
                        all.extend(d.children.into_values());
                    }
                }
            }
        }
    }

    /// The directory that a path leads to, as `openat2(RESOLVE_IN_ROOT)` finds it.
    pub(crate) fn find(&self, path: &[u8]) -> Result<Id, Missing> {
        self.follow(ROOT, path, &mut 0)
    }

    fn follow(&self, from: Id, path: &[u8], links: &mut u32) -> Result<Id, Missing> {
        let mut at = from;
        let mut todo: Vec<&[u8]> = path.rsplit(|b| *b == b'/').collect();
        while let Some(part) = todo.pop() {
            self.steps.set(self.steps.get().checked_sub(1).ok_or(Missing::Exhausted)?);
            match part {
                b"" | b"." => continue,
                b".." => {
                    at = self.directory(at).map_or(ROOT, |d| d.parent);
                    continue;
                }
                long if long.len() > MAX_COMPONENT => return Err(Missing::TooLong),
                _ => {}
            }
            let id = self.child(at, part).ok_or(Missing::Absent)?;
            match self.node(id) {
                Node::Directory(_) => at = id,
                Node::Leaf(Leaf { target: Some(target), .. }) => {
                    *links += 1;
                    if *links > MAX_LINKS {
                        return Err(Missing::Loop);
                    }
                    if target.starts_with(b"/") {
                        at = ROOT;
                    }
                    todo.extend(target.rsplit(|b| *b == b'/'));
                }
                Node::Leaf(Leaf { kind: FileType::Whiteout, .. }) | Node::Gone => {
                    return Err(Missing::Absent);
                }
                Node::Leaf(_) => return Err(Missing::NotDirectory),
            }
        }
        Ok(at)
    }

    /// The directory of a cleaned path; missing ones are made, each after asking `allow`.
    pub(crate) fn make<E>(
        &mut self,
        path: &[u8],
        mut allow: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<Made, Missing>, E> {
        let (mut at, mut links) = (ROOT, 0);
        for part in path.split(|b| *b == b'/').filter(|p| !p.is_empty()) {
            at = match self.follow(at, part, &mut links) {
                Ok(id) => id,
                Err(Missing::Absent) => {
                    let there = self.child(at, part).map(|id| self.kind(id));
                    if there == Some(FileType::Symlink) {
                        return Ok(Ok(Made::Dangling));
                    }
                    allow(part)?;
                    match self.add_directory(at, part) {
                        Some(id) => id,
                        None => return Ok(Err(Missing::Exhausted)),
                    }
                }
                Err(Missing::NotDirectory) => return Ok(Ok(Made::NotDirectory)),
                Err(e) => return Ok(Err(e)),
            };
        }
        Ok(Ok(Made::Directory(at)))
    }
}

/// What directories get that no entry describes: `0755`, root's, of 1970.
fn implied() -> Meta {
    Meta { mode: 0o755, ..Meta::default() }
}
