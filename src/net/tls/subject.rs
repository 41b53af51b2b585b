//! A subject as text (RFC 4514), with the usual short names of attributes, and in ASCII escapes where it must be.

use x509_parser::asn1_rs::ToDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::client::{Unfit, hex};

/// Short names by object identifier: those of RFC 4514, and those that are usual beside them.
const SHORT_NAMES: [(&str, &str); 15] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("2.5.4.97", "organizationIdentifier"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// The most specific attribute first: `CN=alice,OU=staff,O=Example`.
pub(super) fn text(name: &X509Name<'_>) -> Result<String, Unfit> {
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut text = String::new();
    for (place, part) in parts.into_iter().rev().enumerate() {
        if place > 0 {
            text.push(',');
        }
        for (place, attribute) in part.iter().enumerate() {
            if place > 0 {
                text.push('+');
            }
            write_attribute(&mut text, attribute)?;
        }
    }
    Ok(text)
}

fn write_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) -> Result<(), Unfit> {
    let identifier = attribute.attr_type().to_id_string();
    let Some((_, name)) = SHORT_NAMES.iter().find(|(known, _)| *known == identifier) else {
        // RFC 4514 section 2.4: what has no name is written as its encoding.
        let der = attribute.attr_value().to_der_vec().map_err(|_| Unfit::NotText)?;
        text.push_str(&identifier);
        text.push_str("=#");
        text.push_str(&hex(&der));
        return Ok(());
    };
    text.push_str(name);
    text.push('=');
    let value = attribute.as_str().map_err(|_| Unfit::NotText)?;
    let last = value.chars().count().saturating_sub(1);
    for (place, letter) in value.chars().enumerate() {
        match letter {
            _ if letter.is_control() => return Err(Unfit::ControlCharacter),
            // As digits, since a blank at the end of a header is lost.
            ' ' if place == 0 || place == last => text.push_str("\\20"),
            '#' if place == 0 => text.push_str("\\#"),
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => text.extend(['\\', letter]),
            _ => text.push(letter),
        }
    }
    Ok(())
}
