//! Countries (ISO 3166-1 alpha-2), continents and subdivisions (ISO 3166-2).
//!
//! A code in a rule must be assigned: a typing mistake that silently matches nobody would open or close a door by accident.
//! The table holds the 249 assigned codes (as of 2026) and one user-assigned code, `XK` (Kosovo), since every GeoIP database
//! uses it. Other user-assigned, reserved and former codes (`UK`, `EU`, `AN` …) are refused with a suggestion.
//!
//! ```text
//! NL      fine          uk      refused, did you mean GB
//! XK      fine          nl      refused, did you mean NL
//! ```

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// An assigned ISO 3166-1 alpha-2 code, upper case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Country(pub [u8; 2]);

/// A continent, by its two-letter code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Continent(pub [u8; 2]);

/// An ISO 3166-2 code such as `US-CA`; the part behind the dash has 1 to 3 characters, padded with NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subdivision {
    /// The country's part.
    pub country: [u8; 2],
    /// The subdivision's part, padded with NUL.
    pub part: [u8; 3],
}

/// A code that is not assigned, or not written in upper case.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{text}` is not {kind}")]
pub struct UnknownCode {
    /// As written.
    pub text: String,
    /// What it should have been, with its article: `an assigned country code`.
    pub kind: &'static str,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl Country {
    /// Every code of the table, sorted.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().map(|(code, _)| Self(*code))
    }

    /// The English short name, for messages and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        let found = NAMES.binary_search_by_key(&self.0, |(code, _)| *code).ok();
        found
            .and_then(|at| NAMES.get(at))
            .map_or("unknown country", |(_, name)| name)
    }

    /// The country that a database names. Case is forgiven; a code that is no country (`EU`, `AP`, `A1`, `ZZ`) is none.
    #[must_use]
    pub fn from_database(code: &[u8]) -> Option<Self> {
        let code = <[u8; 2]>::try_from(code)
            .ok()?
            .map(|byte| byte.to_ascii_uppercase());
        assigned(code).then_some(Self(code))
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        ascii(&self.0)
    }
}

impl FromStr for Country {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let code = <[u8; 2]>::try_from(text.as_bytes()).ok();
        if let Some(code) = code.filter(|code| assigned(*code)) {
            return Ok(Self(code));
        }
        Err(UnknownCode {
            text: text.to_owned(),
            kind: "an assigned country code",
            suggestion: suggest(text).map(|country| country.to_string()),
        })
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Continent {
    /// The seven continents as GeoIP databases name them.
    pub const ALL: [Self; 7] = [
        Self(*b"AF"),
        Self(*b"AN"),
        Self(*b"AS"),
        Self(*b"EU"),
        Self(*b"NA"),
        Self(*b"OC"),
        Self(*b"SA"),
    ];

    /// The English name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match &self.0 {
            b"AF" => "Africa",
            b"AN" => "Antarctica",
            b"AS" => "Asia",
            b"EU" => "Europe",
            b"NA" => "North America",
            b"OC" => "Oceania",
            b"SA" => "South America",
            _ => "unknown continent",
        }
    }

    /// The continent that a database names. Case is forgiven.
    #[must_use]
    pub fn from_database(code: &[u8]) -> Option<Self> {
        let code = <[u8; 2]>::try_from(code)
            .ok()?
            .map(|byte| byte.to_ascii_uppercase());
        Self::ALL.into_iter().find(|known| known.0 == code)
    }

    /// The code as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        ascii(&self.0)
    }
}

impl FromStr for Continent {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let exact = Self::ALL.iter().find(|known| known.as_str() == text);
        exact.copied().ok_or_else(|| {
            let meant = Self::from_database(text.as_bytes()).or_else(|| {
                let mut all = Self::ALL.into_iter();
                all.find(|known| known.name().eq_ignore_ascii_case(text))
            });
            UnknownCode {
                text: text.to_owned(),
                kind: "a continent (AF AN AS EU NA OC SA)",
                suggestion: meant.map(|continent| continent.to_string()),
            }
        })
    }
}

impl fmt::Display for Continent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Subdivision {
    /// A subdivision of `country` by its own part (`CA` of `US`). Case is forgiven; the part is 1 to 3 letters and digits.
    #[must_use]
    pub fn new(country: Country, part: &[u8]) -> Option<Self> {
        if part.is_empty() || part.len() > 3 || !part.iter().all(u8::is_ascii_alphanumeric) {
            return None;
        }
        let mut padded = [0; 3];
        for (to, from) in padded.iter_mut().zip(part) {
            *to = from.to_ascii_uppercase();
        }
        Some(Self {
            country: country.0,
            part: padded,
        })
    }

    /// The subdivision's own part, `CA` of `US-CA`.
    #[must_use]
    pub fn part(&self) -> &str {
        ascii(&self.part).trim_end_matches('\0')
    }
}

impl FromStr for Subdivision {
    type Err = UnknownCode;

    /// The country must be assigned; the part is only checked for its form, for ISO 3166-2 changes every year.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let parsed = text.split_once('-').and_then(|(country, part)| {
            let country = country.parse::<Country>().ok()?;
            Self::new(country, part.as_bytes())
        });
        let exact = parsed.filter(|found| found.to_string() == text);
        exact.ok_or_else(|| {
            let meant = text
                .split_once(['-', '_', '.'])
                .and_then(|(country, part)| {
                    let country =
                        Country::from_database(country.as_bytes()).or_else(|| suggest(country))?;
                    Self::new(country, part.as_bytes())
                });
            UnknownCode {
                text: text.to_owned(),
                kind: "a subdivision such as `US-CA`",
                suggestion: meant.map(|subdivision| subdivision.to_string()),
            }
        })
    }
}

impl fmt::Display for Subdivision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", ascii(&self.country), self.part())
    }
}

/// The countries of a built-in group: `eu`, `eea` or `schengen`. As of 2026-01-01: the EU has 27 members; the EEA adds IS, LI
/// and NO; Schengen is the EU without CY and IE, with CH, IS, LI and NO (BG and RO in full since 2025-01-01, HR since 2023).
#[must_use]
pub fn group(name: &str) -> Option<&'static [Country]> {
    match name {
        "eu" => Some(&EU),
        "eea" => Some(&EEA),
        "schengen" => Some(&SCHENGEN),
        _ => None,
    }
}

/// The names that [`group`] knows.
pub const GROUPS: [&str; 3] = ["eea", "eu", "schengen"];

fn assigned(code: [u8; 2]) -> bool {
    NAMES
        .binary_search_by_key(&code, |(known, _)| *known)
        .is_ok()
}

/// What was probably meant: the code in another case, a former or colloquial code, a three-letter code, or a name.
fn suggest(text: &str) -> Option<Country> {
    let upper = text.trim().to_ascii_uppercase();
    let alias = ALIASES.iter().find(|(alias, _)| *alias == upper);
    Country::from_database(upper.as_bytes())
        .or_else(|| alias.map(|(_, code)| Country(**code)))
        .or_else(|| {
            let mut names = NAMES.iter();
            let found = names.find(|(_, name)| name.to_ascii_uppercase() == upper);
            found.map(|(code, _)| Country(*code))
        })
}

/// INVARIANT: the bytes of the code types are ASCII; where somebody built one by hand that is not, it shows as `??`.
fn ascii(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("??")
}

const fn list<const N: usize>(codes: [&[u8; 2]; N]) -> [Country; N] {
    let mut countries = [Country([0; 2]); N];
    let mut at = 0;
    while at < N {
        #[expect(
            clippy::indexing_slicing,
            reason = "at < N, and evaluated at compile time"
        )]
        {
            countries[at] = Country(*codes[at]);
        }
        at += 1;
    }
    countries
}

static EU: [Country; 27] = list([
    b"AT", b"BE", b"BG", b"CY", b"CZ", b"DE", b"DK", b"EE", b"ES", b"FI", b"FR", b"GR", b"HR",
    b"HU", b"IE", b"IT", b"LT", b"LU", b"LV", b"MT", b"NL", b"PL", b"PT", b"RO", b"SE", b"SI",
    b"SK",
]);

static EEA: [Country; 30] = list([
    b"AT", b"BE", b"BG", b"CY", b"CZ", b"DE", b"DK", b"EE", b"ES", b"FI", b"FR", b"GR", b"HR",
    b"HU", b"IE", b"IS", b"IT", b"LI", b"LT", b"LU", b"LV", b"MT", b"NL", b"NO", b"PL", b"PT",
    b"RO", b"SE", b"SI", b"SK",
]);

static SCHENGEN: [Country; 29] = list([
    b"AT", b"BE", b"BG", b"CH", b"CZ", b"DE", b"DK", b"EE", b"ES", b"FI", b"FR", b"GR", b"HR",
    b"HU", b"IS", b"IT", b"LI", b"LT", b"LU", b"LV", b"MT", b"NL", b"NO", b"PL", b"PT", b"RO",
    b"SE", b"SI", b"SK",
]);

/// Codes that people write although they are not assigned. Only aliases with one plain meaning stand here.
const ALIASES: [(&str, &[u8; 2]); 34] = [
    ("UK", b"GB"),
    ("EL", b"GR"),
    ("JA", b"JP"),
    ("SU", b"RU"),
    ("BU", b"MM"),
    ("ZR", b"CD"),
    ("TP", b"TL"),
    ("FX", b"FR"),
    ("DD", b"DE"),
    ("KO", b"KR"),
    ("KS", b"XK"),
    ("XKX", b"XK"),
    ("USA", b"US"),
    ("GBR", b"GB"),
    ("DEU", b"DE"),
    ("GER", b"DE"),
    ("FRA", b"FR"),
    ("NLD", b"NL"),
    ("NED", b"NL"),
    ("BEL", b"BE"),
    ("LUX", b"LU"),
    ("ESP", b"ES"),
    ("ITA", b"IT"),
    ("CHE", b"CH"),
    ("AUT", b"AT"),
    ("NOR", b"NO"),
    ("SWE", b"SE"),
    ("DNK", b"DK"),
    ("POL", b"PL"),
    ("RUS", b"RU"),
    ("CHN", b"CN"),
    ("JPN", b"JP"),
    ("PRK", b"KP"),
    ("IRN", b"IR"),
];

/// INVARIANT: sorted by code.
const NAMES: [([u8; 2], &str); 250] = [
    (*b"AD", "Andorra"),
    (*b"AE", "United Arab Emirates"),
    (*b"AF", "Afghanistan"),
    (*b"AG", "Antigua and Barbuda"),
    (*b"AI", "Anguilla"),
    (*b"AL", "Albania"),
    (*b"AM", "Armenia"),
    (*b"AO", "Angola"),
    (*b"AQ", "Antarctica"),
    (*b"AR", "Argentina"),
    (*b"AS", "American Samoa"),
    (*b"AT", "Austria"),
    (*b"AU", "Australia"),
    (*b"AW", "Aruba"),
    (*b"AX", "Åland Islands"),
    (*b"AZ", "Azerbaijan"),
    (*b"BA", "Bosnia and Herzegovina"),
    (*b"BB", "Barbados"),
    (*b"BD", "Bangladesh"),
    (*b"BE", "Belgium"),
    (*b"BF", "Burkina Faso"),
    (*b"BG", "Bulgaria"),
    (*b"BH", "Bahrain"),
    (*b"BI", "Burundi"),
    (*b"BJ", "Benin"),
    (*b"BL", "Saint Barthélemy"),
    (*b"BM", "Bermuda"),
    (*b"BN", "Brunei"),
    (*b"BO", "Bolivia"),
    (*b"BQ", "Bonaire, Sint Eustatius and Saba"),
    (*b"BR", "Brazil"),
    (*b"BS", "Bahamas"),
    (*b"BT", "Bhutan"),
    (*b"BV", "Bouvet Island"),
    (*b"BW", "Botswana"),
    (*b"BY", "Belarus"),
    (*b"BZ", "Belize"),
    (*b"CA", "Canada"),
    (*b"CC", "Cocos (Keeling) Islands"),
    (*b"CD", "Democratic Republic of the Congo"),
    (*b"CF", "Central African Republic"),
    (*b"CG", "Republic of the Congo"),
    (*b"CH", "Switzerland"),
    (*b"CI", "Côte d'Ivoire"),
    (*b"CK", "Cook Islands"),
    (*b"CL", "Chile"),
    (*b"CM", "Cameroon"),
    (*b"CN", "China"),
    (*b"CO", "Colombia"),
    (*b"CR", "Costa Rica"),
    (*b"CU", "Cuba"),
    (*b"CV", "Cabo Verde"),
    (*b"CW", "Curaçao"),
    (*b"CX", "Christmas Island"),
    (*b"CY", "Cyprus"),
    (*b"CZ", "Czechia"),
    (*b"DE", "Germany"),
    (*b"DJ", "Djibouti"),
    (*b"DK", "Denmark"),
    (*b"DM", "Dominica"),
    (*b"DO", "Dominican Republic"),
    (*b"DZ", "Algeria"),
    (*b"EC", "Ecuador"),
    (*b"EE", "Estonia"),
    (*b"EG", "Egypt"),
    (*b"EH", "Western Sahara"),
    (*b"ER", "Eritrea"),
    (*b"ES", "Spain"),
    (*b"ET", "Ethiopia"),
    (*b"FI", "Finland"),
    (*b"FJ", "Fiji"),
    (*b"FK", "Falkland Islands"),
    (*b"FM", "Micronesia"),
    (*b"FO", "Faroe Islands"),
    (*b"FR", "France"),
    (*b"GA", "Gabon"),
    (*b"GB", "United Kingdom"),
    (*b"GD", "Grenada"),
    (*b"GE", "Georgia"),
    (*b"GF", "French Guiana"),
    (*b"GG", "Guernsey"),
    (*b"GH", "Ghana"),
    (*b"GI", "Gibraltar"),
    (*b"GL", "Greenland"),
    (*b"GM", "Gambia"),
    (*b"GN", "Guinea"),
    (*b"GP", "Guadeloupe"),
    (*b"GQ", "Equatorial Guinea"),
    (*b"GR", "Greece"),
    (*b"GS", "South Georgia and the South Sandwich Islands"),
    (*b"GT", "Guatemala"),
    (*b"GU", "Guam"),
    (*b"GW", "Guinea-Bissau"),
    (*b"GY", "Guyana"),
    (*b"HK", "Hong Kong"),
    (*b"HM", "Heard Island and McDonald Islands"),
    (*b"HN", "Honduras"),
    (*b"HR", "Croatia"),
    (*b"HT", "Haiti"),
    (*b"HU", "Hungary"),
    (*b"ID", "Indonesia"),
    (*b"IE", "Ireland"),
    (*b"IL", "Israel"),
    (*b"IM", "Isle of Man"),
    (*b"IN", "India"),
    (*b"IO", "British Indian Ocean Territory"),
    (*b"IQ", "Iraq"),
    (*b"IR", "Iran"),
    (*b"IS", "Iceland"),
    (*b"IT", "Italy"),
    (*b"JE", "Jersey"),
    (*b"JM", "Jamaica"),
    (*b"JO", "Jordan"),
    (*b"JP", "Japan"),
    (*b"KE", "Kenya"),
    (*b"KG", "Kyrgyzstan"),
    (*b"KH", "Cambodia"),
    (*b"KI", "Kiribati"),
    (*b"KM", "Comoros"),
    (*b"KN", "Saint Kitts and Nevis"),
    (*b"KP", "North Korea"),
    (*b"KR", "South Korea"),
    (*b"KW", "Kuwait"),
    (*b"KY", "Cayman Islands"),
    (*b"KZ", "Kazakhstan"),
    (*b"LA", "Laos"),
    (*b"LB", "Lebanon"),
    (*b"LC", "Saint Lucia"),
    (*b"LI", "Liechtenstein"),
    (*b"LK", "Sri Lanka"),
    (*b"LR", "Liberia"),
    (*b"LS", "Lesotho"),
    (*b"LT", "Lithuania"),
    (*b"LU", "Luxembourg"),
    (*b"LV", "Latvia"),
    (*b"LY", "Libya"),
    (*b"MA", "Morocco"),
    (*b"MC", "Monaco"),
    (*b"MD", "Moldova"),
    (*b"ME", "Montenegro"),
    (*b"MF", "Saint Martin (French part)"),
    (*b"MG", "Madagascar"),
    (*b"MH", "Marshall Islands"),
    (*b"MK", "North Macedonia"),
    (*b"ML", "Mali"),
    (*b"MM", "Myanmar"),
    (*b"MN", "Mongolia"),
    (*b"MO", "Macao"),
    (*b"MP", "Northern Mariana Islands"),
    (*b"MQ", "Martinique"),
    (*b"MR", "Mauritania"),
    (*b"MS", "Montserrat"),
    (*b"MT", "Malta"),
    (*b"MU", "Mauritius"),
    (*b"MV", "Maldives"),
    (*b"MW", "Malawi"),
    (*b"MX", "Mexico"),
    (*b"MY", "Malaysia"),
    (*b"MZ", "Mozambique"),
    (*b"NA", "Namibia"),
    (*b"NC", "New Caledonia"),
    (*b"NE", "Niger"),
    (*b"NF", "Norfolk Island"),
    (*b"NG", "Nigeria"),
    (*b"NI", "Nicaragua"),
    (*b"NL", "Netherlands"),
    (*b"NO", "Norway"),
    (*b"NP", "Nepal"),
    (*b"NR", "Nauru"),
    (*b"NU", "Niue"),
    (*b"NZ", "New Zealand"),
    (*b"OM", "Oman"),
    (*b"PA", "Panama"),
    (*b"PE", "Peru"),
    (*b"PF", "French Polynesia"),
    (*b"PG", "Papua New Guinea"),
    (*b"PH", "Philippines"),
    (*b"PK", "Pakistan"),
    (*b"PL", "Poland"),
    (*b"PM", "Saint Pierre and Miquelon"),
    (*b"PN", "Pitcairn"),
    (*b"PR", "Puerto Rico"),
    (*b"PS", "Palestine"),
    (*b"PT", "Portugal"),
    (*b"PW", "Palau"),
    (*b"PY", "Paraguay"),
    (*b"QA", "Qatar"),
    (*b"RE", "Réunion"),
    (*b"RO", "Romania"),
    (*b"RS", "Serbia"),
    (*b"RU", "Russia"),
    (*b"RW", "Rwanda"),
    (*b"SA", "Saudi Arabia"),
    (*b"SB", "Solomon Islands"),
    (*b"SC", "Seychelles"),
    (*b"SD", "Sudan"),
    (*b"SE", "Sweden"),
    (*b"SG", "Singapore"),
    (*b"SH", "Saint Helena, Ascension and Tristan da Cunha"),
    (*b"SI", "Slovenia"),
    (*b"SJ", "Svalbard and Jan Mayen"),
    (*b"SK", "Slovakia"),
    (*b"SL", "Sierra Leone"),
    (*b"SM", "San Marino"),
    (*b"SN", "Senegal"),
    (*b"SO", "Somalia"),
    (*b"SR", "Suriname"),
    (*b"SS", "South Sudan"),
    (*b"ST", "Sao Tome and Principe"),
    (*b"SV", "El Salvador"),
    (*b"SX", "Sint Maarten (Dutch part)"),
    (*b"SY", "Syria"),
    (*b"SZ", "Eswatini"),
    (*b"TC", "Turks and Caicos Islands"),
    (*b"TD", "Chad"),
    (*b"TF", "French Southern Territories"),
    (*b"TG", "Togo"),
    (*b"TH", "Thailand"),
    (*b"TJ", "Tajikistan"),
    (*b"TK", "Tokelau"),
    (*b"TL", "Timor-Leste"),
    (*b"TM", "Turkmenistan"),
    (*b"TN", "Tunisia"),
    (*b"TO", "Tonga"),
    (*b"TR", "Türkiye"),
    (*b"TT", "Trinidad and Tobago"),
    (*b"TV", "Tuvalu"),
    (*b"TW", "Taiwan"),
    (*b"TZ", "Tanzania"),
    (*b"UA", "Ukraine"),
    (*b"UG", "Uganda"),
    (*b"UM", "United States Minor Outlying Islands"),
    (*b"US", "United States"),
    (*b"UY", "Uruguay"),
    (*b"UZ", "Uzbekistan"),
    (*b"VA", "Vatican City"),
    (*b"VC", "Saint Vincent and the Grenadines"),
    (*b"VE", "Venezuela"),
    (*b"VG", "British Virgin Islands"),
    (*b"VI", "United States Virgin Islands"),
    (*b"VN", "Vietnam"),
    (*b"VU", "Vanuatu"),
    (*b"WF", "Wallis and Futuna"),
    (*b"WS", "Samoa"),
    (*b"XK", "Kosovo"),
    (*b"YE", "Yemen"),
    (*b"YT", "Mayotte"),
    (*b"ZA", "South Africa"),
    (*b"ZM", "Zambia"),
    (*b"ZW", "Zimbabwe"),
];

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]

    use super::*;

    #[test]
    fn wrong_codes_are_refused_with_a_suggestion() {
        for (text, suggestion) in [
            ("UK", Some("GB")),          // colloquial, exceptionally reserved
            ("EL", Some("GR")),          // as the EU writes it
            ("nl", Some("NL")),          // lower case
            ("Nl", Some("NL")),          // mixed case
            ("uk", Some("GB")),          // both mistakes
            ("NLD", Some("NL")),         // alpha-3
            ("netherlands", Some("NL")), // a name
            ("EU", None),                // not a country
            ("ZZ", None),                // unknown in some databases
            ("A1", None),                // anonymous proxy in old databases
            ("QM", None),                // user-assigned
            ("", None),
            ("N", None),
            ("Ñ", None), // two bytes, not ASCII
        ] {
            let error = text.parse::<Country>().unwrap_err();
            assert_eq!(error.suggestion.as_deref(), suggestion, "{text}");
            assert!(error.to_string().contains("not an assigned"), "{error}");
        }
    }

    #[test]
    fn parse_and_display_are_inverse() {
        assert_eq!(Country::all().count(), 250);
        for country in Country::all() {
            assert_eq!(country.to_string().parse(), Ok(country));
            assert_eq!(
                Country::from_database(country.as_str().to_lowercase().as_bytes()),
                Some(country)
            );
            assert_ne!(country.name(), "unknown country");
        }
        for continent in Continent::ALL {
            assert_eq!(continent.to_string().parse(), Ok(continent));
        }
        for text in ["US-CA", "GB-ENG", "NL-NH", "AT-9", "MX-CMX"] {
            assert_eq!(text.parse::<Subdivision>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn the_table_is_sorted() {
        let mut codes: Vec<Country> = Country::all().collect();
        codes.sort_unstable();
        codes.dedup();
        assert!(codes.into_iter().eq(Country::all()));
    }

    #[test]
    fn wrong_subdivisions_are_refused_with_a_suggestion() {
        for (text, suggestion) in [
            ("us-ca", Some("US-CA")),
            ("US_CA", Some("US-CA")),
            ("UK-ENG", Some("GB-ENG")),
            ("US-", None),
            ("US-CALI", None),
            ("CA", None),
            ("XX-YY", None),
            ("US-C A", None),
        ] {
            let error = text.parse::<Subdivision>().unwrap_err();
            assert_eq!(error.suggestion.as_deref(), suggestion, "{text}");
        }
        let error = "europe".parse::<Continent>().unwrap_err();
        assert_eq!(error.suggestion.as_deref(), Some("EU"));
    }

    #[test]
    fn groups_hold_assigned_countries_and_differ_where_they_must() {
        for name in GROUPS {
            let group = group(name).unwrap();
            assert!(
                group
                    .iter()
                    .all(|country| country.to_string().parse() == Ok(*country))
            );
            assert!(group.is_sorted());
        }
        let holds = |name, code: &[u8; 2]| group(name).unwrap().contains(&Country(*code));
        for (code, eu, eea, schengen) in [
            (b"NL", true, true, true),
            (b"IE", true, true, false), // opted out
            (b"CY", true, true, false), // not yet
            (b"BG", true, true, true),  // since 2025
            (b"RO", true, true, true),  // since 2025
            (b"HR", true, true, true),  // since 2023
            (b"NO", false, true, true),
            (b"CH", false, false, true),
            (b"GB", false, false, false),
        ] {
            assert_eq!(
                (
                    holds("eu", code),
                    holds("eea", code),
                    holds("schengen", code)
                ),
                (eu, eea, schengen),
                "{code:?}"
            );
        }
        assert_eq!(group("EU"), None);
    }
}
