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

use crate::public::PublicKey;
use crate::role::Role;
use crate::signer::{Algorithm, Signer};
use crate::uri::Uri;

/// DER of `DigestInfo` up to the digest (RFC 8017 section 9.2, note 1).
const SHA256_INFO: [u8; 19] = *b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
const SHA512_INFO: [u8; 19] = *b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40";

/// Modules are initialised once a process (PKCS#11 v3.1 section 5.4.1), whoever asks.
static MODULES: Mutex<BTreeMap<PathBuf, Pkcs11>> = Mutex::new(BTreeMap::new());

/// Signs with a key in a token.
pub struct TokenSigner {
    session: Mutex<Session>,
    key: ObjectHandle,
    role: Role,
    uri: Uri,
    public: PublicKey,
    certificate: Option<Vec<u8>>,
}

impl fmt::Debug for TokenSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenSigner").field("uri", &self.uri).field("public", &self.public).finish_non_exhaustive()
    }
}

impl TokenSigner {
    /// Opens the token, logs in, and finds the private key of `public`. `pin` counts where the URI has no `pin-source`.
    ///
    /// # Errors
    /// [`Class::MissingTool`] without the module; [`Class::Infrastructure`] when the token is not there; [`Class::BadInput`] when the PIN
    /// is wrong, or the key is not there, not the only one of that name, or not that of `public`.
    pub fn open(
        uri: &Uri,
        pin: Option<&str>,
        role: Role,
        public: &PublicKey,
        certificate: Option<Vec<u8>>,
    ) -> Result<Self> {
        let context = module(&uri.module)?;
        let (slot, token) = find_token(&context, uri)?;
        let session = context.open_ro_session(slot).map_err(|e| unreachable_token(uri, &e))?;
        login(&session, &token, uri, pin)?;
        let key = find_key(&session, uri)?;
        same_key(&session, key, uri, public)?;
        Ok(Self { session: Mutex::new(session), key, role, uri: uri.clone(), public: public.clone(), certificate })
    }
}

impl Signer for TokenSigner {
    fn algorithm(&self) -> Algorithm {
        self.role.algorithm()
    }

    fn public_key(&self) -> &[u8] {
        self.public.der()
    }

    fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    fn sign(&self, digest: &[u8], what: &str) -> Result<Vec<u8>> {
        let (mechanism, input) = match self.algorithm() {
            Algorithm::EcdsaP256Sha256 => (Mechanism::Ecdsa, digest.to_vec()),
            Algorithm::RsaSha256 => (Mechanism::RsaPkcs, [&SHA256_INFO[..], digest].concat()),
            Algorithm::RsaSha512 => (Mechanism::RsaPkcs, [&SHA512_INFO[..], digest].concat()),
        };
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        let signature = session.sign(&mechanism, self.key, &input).map_err(|e| {
            Error::new(Class::Infrastructure, format!("the token did not sign {what}"))
                .file(&self.uri.module)
                .why(format!("{}: {}", self.uri, short(&e)))
                .hint("see that the token is there and unlocked, then build again: finished stages are not repeated")
        })?;
        let signature = match self.algorithm() {
            Algorithm::EcdsaP256Sha256 => Signature::from_slice(&signature)
                .map_err(|e| {
                    Error::new(Class::Infrastructure, format!("the token's signature of {what} is none")).why(e)
                })?
                .to_der()
                .as_bytes()
                .to_vec(),
            _ => signature,
        };
        self.public.verify(self.algorithm(), digest, &signature).map_err(|e| e.hint(mismatch_hint(&self.uri)))?;
        Ok(signature)
    }
}

fn module(path: &Path) -> Result<Pkcs11> {
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = modules.get(path) {
        return Ok(known.clone());
    }
    let context = Pkcs11::new(path).map_err(|e| {
        Error::new(Class::MissingTool, "cannot load the PKCS#11 module")
            .file(path)
            .why(short(&e))
            .hint("install the token's PKCS#11 module, and give its path as module-path in keys.toml")
    })?;
    context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).map_err(|e| {
        Error::new(Class::Infrastructure, "the PKCS#11 module does not start")
            .file(path)
            .why(short(&e))
            .hint("see its configuration, and that its token or service is there (SoftHSM: SOFTHSM2_CONF)")
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
    let mut found: Vec<_> = all.into_iter().filter(|(slot, token)| is_meant(uri, *slot, token)).collect();
    match (found.pop(), found.len()) {
        (Some(token), 0) => Ok(token),
        (Some(_), more) => Err(Error::new(Class::BadInput, "several tokens are meant")
            .why(format!("{uri} fits {} tokens", more + 1))
            .hint("add the token's serial to the URI: serial=…")),
        (None, _) => Err(Error::new(Class::Infrastructure, "the token is not there")
            .file(&uri.module)
            .why(format!("{uri}\nthe module knows the tokens: {}", or_none(&labels)))
            .hint(
                "plug it in or start its service; `pkcs11-tool --module MODULE --list-token-slots` shows what is there",
            )),
    }
}

fn is_meant(uri: &Uri, slot: Slot, token: &TokenInfo) -> bool {
    let fits = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
    fits(&uri.token, token.label())
        && fits(&uri.serial, token.serial_number())
        && fits(&uri.manufacturer, token.manufacturer_id())
        && fits(&uri.model, token.model())
        && uri.slot.is_none_or(|wanted| wanted == slot.id())
}

fn login(session: &Session, token: &TokenInfo, uri: &Uri, pin: Option<&str>) -> Result<()> {
    if !token.login_required() {
        return Ok(());
    }
    let from_file = uri.pin_file.as_deref().map(read_pin).transpose()?;
    let pin = from_file.as_deref().map(String::as_str).or(pin).map(|pin| AuthPin::from(pin.to_owned()));
    if pin.is_none() && !token.protected_authentication_path() {
        return Err(Error::new(Class::BadInput, "the token wants a PIN").why(uri.to_string()).hint(
            "name a file that holds it in the URI (pin-source=file:/path), or set SOLANA_TALOS_PIN; never on the command line",
        ));
    }
    match session.login(UserType::User, pin.as_ref()) {
        // Another role's key in the same token: the login is the process's, not the session's.
        Ok(()) | Err(TokenError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        Err(TokenError::Pkcs11(
            e @ (RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinLocked
            | RvError::PinExpired),
            _,
        )) => Err(Error::new(Class::BadInput, "the token refused the PIN")
            .why(format!("{uri}: {e:?}"))
            .hint("check the PIN before the next try: tokens lock after a few wrong ones")),
        Err(e) => Err(unreachable_token(uri, &e)),
    }
}

/// The PIN in the file at `path`, which is as secret as the key.
fn read_pin(path: &Path) -> Result<Zeroizing<String>> {
    use std::os::unix::fs::PermissionsExt as _;
    let io = |e: &std::io::Error| Error::io("cannot read the file with the PIN", path, e);
    let mode = std::fs::metadata(path).map_err(|e| io(&e))?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(Error::new(Class::BadInput, "others may read the PIN")
            .file(path)
            .why(format!("the file's mode is {:04o}", mode & 0o7777))
            .hint(format!("`chmod 600 {}`, and change the PIN if somebody could have read it", path.display())));
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| io(&e))?);
    Ok(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

fn find_key(session: &Session, uri: &Uri) -> Result<ObjectHandle> {
    let private = Attribute::Class(ObjectClass::PRIVATE_KEY);
    let mut wanted = vec![private.clone(), Attribute::Sign(true)];
    wanted.extend(uri.object.as_ref().map(|label| Attribute::Label(label.clone().into_bytes())));
    wanted.extend(uri.id.as_ref().map(|id| Attribute::Id(id.clone())));
    let mut found = session.find_objects(&wanted).map_err(|e| unreachable_token(uri, &e))?;
    match (found.pop(), found.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), more) => Err(Error::new(Class::BadInput, "several keys are meant")
            .why(format!("{uri} fits {} keys", more + 1))
            .hint("name the key by object and id")),
        (None, _) => {
            let labels = labels(session, &[private]);
            Err(Error::new(Class::BadInput, "the token has no such key")
                .why(format!("{uri}\nthe token has the private keys: {}", or_none(&labels)))
                .hint("the key has to be a private key that may sign (CKA_SIGN)"))
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

/// Compares what the token tells of its key with the public half. A token that tells nothing is found out by its first signature.
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
    Err(Error::new(Class::BadInput, "the key in the token and its public half do not belong together")
        .why(format!("{uri} is not the key {}", public.fingerprint()))
        .hint(mismatch_hint(uri)))
}

/// Without leading zeros.
fn strip(number: &[u8]) -> &[u8] {
    &number[number.iter().take_while(|byte| **byte == 0).count()..]
}

fn mismatch_hint(uri: &Uri) -> String {
    format!("put the certificate or public key of {uri} into the key set")
}

fn unreachable_token(uri: &Uri, err: &TokenError) -> Error {
    Error::new(Class::Infrastructure, "the token cannot be used")
        .file(&uri.module)
        .why(format!("{uri}: {}", short(err)))
        .hint("see that the token is there, then build again: finished stages are not repeated")
}

/// The name of the return value; the library's own words are paragraphs of the specification.
fn short(err: &TokenError) -> String {
    match err {
        TokenError::Pkcs11(value, function) => {
            format!("C_{} gave {value:?}", function.to_string().trim_start_matches("Function::"))
        }
        other => other.to_string(),
    }
}

fn or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
