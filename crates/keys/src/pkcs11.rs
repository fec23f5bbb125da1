//! Private keys in PKCS#11 tokens: hardware security modules, smart cards, SoftHSM.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use common::{Class, Error, Result};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error as TokenError, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::AuthPin;
use p256::ecdsa::Signature;
use zeroize::Zeroizing;

use crate::pem::require_owner_only;
use crate::public::PublicKey;
use crate::signer::{Algorithm, Identity, OrPending, Signer};
use crate::uri::Uri;

/// DER of `DigestInfo` up to the digest (RFC 8017 section 9.2, note 1).
const SHA256_INFO: [u8; 19] = *b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
const SHA512_INFO: [u8; 19] = *b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40";

/// Hint for a module that cannot be loaded.
const NOT_LOADED: &str = if cfg!(target_feature = "crt-static") {
    "a static program loads no modules: use the tool that `./x` compiles, or sign with --sign-later and `solana-talos keys sign` there"
} else {
    "install the token's PKCS#11 module and set its path as module-path in keys.toml"
};

/// Loaded modules: each can be initialised once per process (PKCS#11 v3.1 section 5.4.1).
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// Signs with a key in a token.
pub struct TokenSigner {
    session: Mutex<Session>,
    key: ObjectHandle,
    uri: Uri,
    identity: Identity,
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("uri", &self.uri).field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// Opens the token, logs in, and finds the private key of `identity`. `pin` is used if the URI has no `pin-source`.
    ///
    /// # Errors
    /// [`Class::MissingTool`] without the module; [`Class::Infrastructure`] without the token; [`Class::BadInput`] if the PIN is wrong, or
    /// the key is missing, ambiguous, or not that of `identity`.
    pub fn open(uri: &Uri, pin: Option<&str>, identity: Identity) -> Result<Self> {
        let path = library(uri);
        let context = module(&path)?;
        check_library(&context, &path, uri)?;
        let (slot, token) = find_token(&context, uri)?;
        let session = context.open_ro_session(slot).map_err(|e| unreachable_token(uri, &e))?;
        login(&session, &token, uri, pin)?;
        let key = find_key(&session, uri)?;
        same_key(&session, key, uri, &identity.public)?;
        Ok(Self { session: Mutex::new(session), key, uri: uri.clone(), identity })
    }
}

impl TokenSigner {
    /// Returns the signature of `digest`; see [`Signer::sign`].
    pub fn sign(&self, digest: &[u8], what: &str) -> Result<Vec<u8>> {
        let Identity { algorithm, public, .. } = &self.identity;
        let (mechanism, input) = match algorithm {
            Algorithm::EcdsaP256Sha256 => (Mechanism::Ecdsa, digest.to_vec()),
            Algorithm::RsaSha256 => (Mechanism::RsaPkcs, [&SHA256_INFO[..], digest].concat()),
            Algorithm::RsaSha512 => (Mechanism::RsaPkcs, [&SHA512_INFO[..], digest].concat()),
        };
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let signature = session.sign(&mechanism, self.key, &input).map_err(|e| {
            Error::new(Class::Infrastructure, format!("the token cannot sign {what}"))
                .file(&self.uri.module)
                .why(format!("{}: {}", self.uri, short(&e)))
                .hint(
                    "check that the token is connected and unlocked, then repeat the build; it continues at this stage",
                )
        })?;
        let signature = match algorithm {
            Algorithm::EcdsaP256Sha256 => {
                let malformed =
                    || Error::new(Class::Infrastructure, format!("malformed signature of {what} by the token"));
                Signature::from_slice(&signature).map_err(|e| malformed().why(e))?.to_der().as_bytes().to_vec()
            }
            _ => signature,
        };
        public.verify(*algorithm, digest, &signature).map_err(|e| e.hint(mismatch_hint(&self.uri)))?;
        Ok(signature)
    }
}

impl Signer for TokenSigner {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn sign(&self, digest: &[u8], what: &str) -> Result<OrPending<Vec<u8>>> {
        self.sign(digest, what).map(Ok)
    }
}

/// Returns the path of the library: `module-path` itself, or `module-name` in that directory (RFC 7512 section 2.3), with or without the
/// usual prefix and suffix.
fn library(uri: &Uri) -> PathBuf {
    let Some(name) = uri.module_name.as_deref().filter(|_| uri.module.is_dir()) else { return uri.module.clone() };
    let candidates = [name.to_owned(), format!("{name}.so"), format!("lib{name}.so")].map(|name| uri.module.join(name));
    candidates.iter().find(|path| path.is_file()).unwrap_or(&candidates[1]).clone()
}

/// Compares the attributes `library-*` with what the library says about itself.
fn check_library(context: &Pkcs11, path: &Path, uri: &Uri) -> Result<()> {
    let info = context.get_library_info().map_err(|e| unreachable_token(uri, &e))?;
    let version = info.library_version();
    let matches = equal(&uri.library_manufacturer, info.manufacturer_id())
        && equal(&uri.library_description, info.library_description())
        && uri.library_version.is_none_or(|wanted| wanted == (version.major(), version.minor()));
    if matches {
        return Ok(());
    }
    let (manufacturer, description) = (info.manufacturer_id(), info.library_description());
    Err(Error::new(Class::BadInput, "the PKCS#11 module is another one than in the URI").file(path).why(format!(
        "{uri}\nthe module says: library-manufacturer={manufacturer};library-description={description};library-version={}.{}",
        version.major(),
        version.minor()
    )))
}

/// Whether an attribute of a URI, if given, has this value.
fn equal(wanted: &Option<String>, actual: &str) -> bool {
    wanted.as_deref().is_none_or(|wanted| wanted == actual)
}

fn module(path: &Path) -> Result<Pkcs11> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = modules.get(path) {
        return Ok(known.clone());
    }
    let context = Pkcs11::new(path).map_err(|e| {
        Error::new(Class::MissingTool, "cannot load the PKCS#11 module").file(path).why(short(&e)).hint(NOT_LOADED)
    })?;
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(|e| {
        Error::new(Class::Infrastructure, "cannot initialise the PKCS#11 module")
            .file(path)
            .why(short(&e))
            .hint("check its configuration and that its token or service is available (SoftHSM: SOFTHSM2_CONF)")
    })?;
    modules.insert(path.to_owned(), context.clone());
    Ok(context)
}

fn find_token(context: &Pkcs11, uri: &Uri) -> Result<(Slot, TokenInfo)> {
    let mut all = Vec::new();
    for slot in context.get_slots_with_initialized_token().map_err(|e| unreachable_token(uri, &e))? {
        all.push((slot, context.get_token_info(slot).map_err(|e| unreachable_token(uri, &e))?));
    }
    let labels: Vec<_> = all.iter().map(|(_, token)| format!("{:?}", token.label())).collect();
    let is_wanted = |(slot, token): &(Slot, TokenInfo)| matches(uri, *slot, token) && slot_matches(context, uri, *slot);
    let mut found: Vec<_> = all.into_iter().filter(is_wanted).collect();
    match (found.pop(), found.len()) {
        (Some(token), 0) => Ok(token),
        (Some(_), more) => Err(Error::new(Class::BadInput, "ambiguous PKCS#11 token")
            .why(format!("{uri} matches {} tokens", more + 1))
            .hint("add the token's serial to the URI: serial=…")),
        (None, _) => Err(Error::new(Class::Infrastructure, "PKCS#11 token not found")
            .file(&uri.module)
            .why(format!("{uri}\navailable tokens: {}", or_none(&labels)))
            .hint(
                "connect the token or start its service; list tokens with `pkcs11-tool --module MODULE --list-token-slots`",
            )),
    }
}

fn matches(uri: &Uri, slot: Slot, token: &TokenInfo) -> bool {
    equal(&uri.token, token.label())
        && equal(&uri.serial, token.serial_number())
        && equal(&uri.manufacturer, token.manufacturer_id())
        && equal(&uri.model, token.model())
        && uri.slot.is_none_or(|wanted| wanted == slot.id())
}

/// Compares the attributes `slot-*`; a slot that cannot be described does not match one that is described in the URI.
fn slot_matches(context: &Pkcs11, uri: &Uri, slot: Slot) -> bool {
    if uri.slot_manufacturer.is_none() && uri.slot_description.is_none() {
        return true;
    }
    context.get_slot_info(slot).is_ok_and(|info| {
        equal(&uri.slot_manufacturer, info.manufacturer_id()) && equal(&uri.slot_description, info.slot_description())
    })
}

fn login(session: &Session, token: &TokenInfo, uri: &Uri, pin: Option<&str>) -> Result<()> {
    if !token.login_required() {
        return Ok(());
    }
    let from_file = uri.pin_file.as_deref().map(read_pin).transpose()?;
    // A CI system leaves the variable of a missing secret empty. An empty PIN is not tried: tokens lock after a few wrong ones.
    let pin = pin.filter(|pin| !pin.is_empty());
    let pin = from_file.as_deref().map(String::as_str).or(pin).map(|pin| AuthPin::from(pin.to_owned()));
    if pin.is_none() && !token.protected_authentication_path() {
        return Err(Error::new(Class::BadInput, "the token requires a PIN").why(uri.to_string()).hint(
            "add pin-source=file:/path to the URI, or set SOLANA_TALOS_PIN; never pass a PIN on the command line",
        ));
    }
    match session.login(UserType::User, pin.as_ref()) {
        // After the login for another role's key in this token: logins are per process, not per session.
        Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(TokenError::Pkcs11(
            e @ (RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinLocked
            | RvError::PinExpired),
            _,
        )) => Err(Error::new(Class::BadInput, "the token rejected the PIN")
            .why(format!("{uri}: {e:?}"))
            .hint("check the PIN before you retry: tokens lock after a few wrong PINs")),
        Err(e) => Err(unreachable_token(uri, &e)),
    }
}

fn read_pin(path: &Path) -> Result<Zeroizing<String>> {
    require_owner_only(path, "PIN")?;
    let text = Zeroizing::new(fs_err::read_to_string(path)?);
    let pin = Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned());
    if pin.is_empty() {
        return Err(Error::new(Class::BadInput, "the file with the PIN is empty")
            .file(path)
            .hint("write the PIN into it; it has not been tried: tokens lock after a few wrong PINs"));
    }
    Ok(pin)
}

fn find_key(session: &Session, uri: &Uri) -> Result<ObjectHandle> {
    let private = Attribute::Class(ObjectClass::PRIVATE_KEY);
    let mut wanted = vec![private.clone(), Attribute::Sign(true)];
    wanted.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    wanted.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
    let mut found = session.find_objects(&wanted).map_err(|e| unreachable_token(uri, &e))?;
    match (found.pop(), found.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), more) => Err(Error::new(Class::BadInput, "ambiguous key in the token")
            .why(format!("{uri} matches {} keys", more + 1))
            .hint("name the key by object and id")),
        (None, _) => {
            let labels = labels(session, &[private]);
            Err(Error::new(Class::BadInput, "key not found in the token")
                .why(format!("{uri}\nprivate keys in the token: {}", or_none(&labels)))
                .hint("name a private key with the attribute CKA_SIGN"))
        }
    }
}

fn labels(session: &Session, template: &[Attribute]) -> Vec<String> {
    let handles = session.find_objects(template).unwrap_or_default();
    let label = |handle| match session.get_attributes(handle, &[AttributeType::Label]).ok()?.pop()? {
        Attribute::Label(label) => Some(format!("{:?}", String::from_utf8_lossy(&label))),
        _ => None,
    };
    handles.into_iter().filter_map(label).collect()
}

/// Compares the public attributes of the token's key with the public half. Tokens without such attributes fail at the first signature.
fn same_key(session: &Session, key: ObjectHandle, uri: &Uri, public: &PublicKey) -> Result<()> {
    let number = |wanted: AttributeType| match session.get_attributes(key, &[wanted]).ok()?.pop()? {
        Attribute::Modulus(bytes) | Attribute::Id(bytes) => Some(bytes),
        _ => None,
    };
    let point = || {
        let template = [Attribute::Class(ObjectClass::PUBLIC_KEY), Attribute::Id(number(AttributeType::Id)?)];
        let [half] = session.find_objects(&template).ok()?[..] else { return None };
        match session.get_attributes(half, &[AttributeType::EcPoint]).ok()?.pop()? {
            Attribute::EcPoint(bytes) => Some(bytes),
            _ => None,
        }
    };
    let differs = match public.modulus() {
        Some(modulus) => number(AttributeType::Modulus).is_some_and(|bytes| strip(&bytes) != strip(&modulus)),
        // The attribute is the point, most often as an OCTET STRING; the key's own encoding ends with the point.
        None => point().is_some_and(|point| point.len() < 64 || !public.der().ends_with(&point[point.len() - 64..])),
    };
    if !differs {
        return Ok(());
    }
    Err(Error::new(Class::BadInput, "the key in the token does not match its public half")
        .why(format!("{uri} is not the key {}", public.fingerprint()))
        .hint(mismatch_hint(uri)))
}

/// Without leading zeros.
fn strip(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

fn mismatch_hint(uri: &Uri) -> String {
    format!("save the certificate or public key of {uri} in the key set")
}

fn unreachable_token(uri: &Uri, err: &TokenError) -> Error {
    Error::new(Class::Infrastructure, "cannot access the PKCS#11 token")
        .file(&uri.module)
        .why(format!("{uri}: {}", short(err)))
        .hint("check that the token is connected, then repeat the build; it continues at this stage")
}

/// Returns the name of the return value; the library's messages are paragraphs of the specification.
fn short(err: &TokenError) -> String {
    match err {
        TokenError::Pkcs11(value, function) => {
            format!("C_{} returned {value:?}", function.to_string().trim_start_matches("Function::"))
        }
        other => other.to_string(),
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
