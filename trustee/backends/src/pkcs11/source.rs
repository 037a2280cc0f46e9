//! Shared secrets as data objects in a token.

use std::sync::Arc;

use cocoon_release::{MAX_SECRET, ResourcePath, SharedSource};
use cryptoki::error::{Error as ModuleError, RvError};
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use zeroize::{Zeroize, Zeroizing};

use super::token::{Fault, Token};
use crate::Error;

/// What we write into `CKA_APPLICATION`; it is not looked at when reading.
const APPLICATION: &[u8] = b"cocoon";

/// Shared secrets as private `CKO_DATA` objects of a token, labelled `repository/type/tag`.
#[derive(Debug)]
pub struct Pkcs11Source {
    token: Arc<Token>,
}

impl Pkcs11Source {
    /// Secrets in this token.
    pub fn new(token: Arc<Token>) -> Self {
        Pkcs11Source { token }
    }

    /// The value, if there is one.
    ///
    /// # Errors
    /// [`Error::Token`], also where several objects have that label; [`Error::TooLarge`].
    pub fn read(&self, path: &ResourcePath) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        self.token.with(|session| {
            let objects = session.find_objects(&labelled(path))?;
            match objects.as_slice() {
                [] => Ok(None),
                [object] => value_of(session, *object).map(Some),
                _ => Err(Error::Token(format!("several objects are labelled {path}; set it again")).into()),
            }
        })
    }

    /// Sets the value, in place where the token can; else the old object is removed after the new one is there.
    ///
    /// # Errors
    /// [`Error::Token`], [`Error::TooLarge`].
    pub fn write(&self, path: &ResourcePath, value: &[u8]) -> Result<(), Error> {
        if value.len() > MAX_SECRET {
            return Err(Error::TooLarge(value.len()));
        }
        self.token.with(|session| {
            let mut old = session.find_objects(&labelled(path))?;
            let mut kept = None;
            if let Some(first) = old.first().copied() {
                match with_value(Vec::new(), value, |template| session.update_attributes(first, template)) {
                    Ok(()) => kept = Some(first),
                    Err(e) if cannot_change(&e) => {}
                    Err(e) => return Err(e.into()),
                }
            }
            if kept.is_none() {
                let mut template = labelled(path);
                template.push(Attribute::Application(APPLICATION.to_vec()));
                with_value(template, value, |template| session.create_object(template))?;
            }
            old.retain(|object| Some(*object) != kept);
            for object in old {
                session.destroy_object(object)?;
            }
            Ok(())
        })
    }

    /// Removes the value; whether there was one.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn remove(&self, path: &ResourcePath) -> Result<bool, Error> {
        self.token.with(|session| {
            let objects = session.find_objects(&labelled(path))?;
            for object in &objects {
                session.destroy_object(*object)?;
            }
            Ok(!objects.is_empty())
        })
    }

    /// The labels of all private data objects that are paths, sorted.
    ///
    /// # Errors
    /// [`Error::Token`].
    pub fn paths(&self) -> Result<Vec<String>, Error> {
        self.token.with(|session| {
            let mut paths = Vec::new();
            for object in session.find_objects(&data_objects())? {
                for attribute in session.get_attributes(object, &[AttributeType::Label])? {
                    let Attribute::Label(label) = attribute else { continue };
                    let Ok(label) = String::from_utf8(label) else { continue };
                    if label.parse::<ResourcePath>().is_ok() {
                        paths.push(label);
                    }
                }
            }
            paths.sort();
            paths.dedup();
            Ok(paths)
        })
    }
}

fn data_objects() -> Vec<Attribute> {
    vec![Attribute::Class(ObjectClass::DATA), Attribute::Token(true), Attribute::Private(true)]
}

fn labelled(path: &ResourcePath) -> Vec<Attribute> {
    let mut template = data_objects();
    template.push(Attribute::Label(path.as_str().as_bytes().to_vec()));
    template
}

fn value_of(session: &Session, object: ObjectHandle) -> Result<Zeroizing<Vec<u8>>, Fault> {
    for attribute in session.get_attributes(object, &[AttributeType::Value])? {
        if let Attribute::Value(value) = attribute {
            let value = Zeroizing::new(value);
            return if value.len() > MAX_SECRET {
                Err(Error::TooLarge(value.len()).into())
            } else {
                Ok(value)
            };
        }
    }
    Err(Error::Token("the object's value cannot be read".into()).into())
}

/// Lends the template with the value in it, and wipes that afterwards.
pub(super) fn with_value<T>(
    mut template: Vec<Attribute>,
    value: &[u8],
    work: impl FnOnce(&[Attribute]) -> Result<T, ModuleError>,
) -> Result<T, ModuleError> {
    template.push(Attribute::Value(value.to_vec()));
    let done = work(&template);
    if let Some(Attribute::Value(value)) = template.last_mut() {
        value.zeroize();
    }
    done
}

fn cannot_change(error: &ModuleError) -> bool {
    use RvError as R;
    matches!(
        error,
        ModuleError::Pkcs11(
            R::AttributeReadOnly | R::ActionProhibited | R::FunctionNotSupported | R::TemplateInconsistent,
            _
        )
    )
}

impl SharedSource for Pkcs11Source {
    fn get(&self, path: &ResourcePath) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        self.read(path).map_err(|e| e.to_string())
    }

    fn put(&self, path: &ResourcePath, value: &[u8]) -> Result<(), String> {
        self.write(path, value).map_err(|e| e.to_string())
    }

    fn delete(&self, path: &ResourcePath) -> Result<bool, String> {
        self.remove(path).map_err(|e| e.to_string())
    }

    fn list(&self) -> Result<Option<Vec<String>>, String> {
        self.paths().map(Some).map_err(|e| e.to_string())
    }
}
