//! Believable content for the demo's CRM.

use rand::Rng;
use rand::seq::IndexedRandom;

const FIRST_NAMES: &[&str] = &[
    "Alice",
    "Amara",
    "Anton",
    "Beatriz",
    "Björn",
    "Carmen",
    "Chloé",
    "Daniel",
    "Dana",
    "Elif",
    "Emeka",
    "Felix",
    "Freya",
    "Gustavo",
    "Hana",
    "Ibrahim",
    "Ines",
    "Jakub",
    "Jo",
    "Kamala",
    "Kenji",
    "Lars",
    "Leila",
    "Łucja",
    "Mateo",
    "Mei",
    "Nadia",
    "Noor",
    "Oleksandr",
    "Olivia",
    "Paolo",
    "Quinn",
    "Rosa",
    "Ruth",
    "Samir",
    "Sofía",
    "Tariq",
    "Tess",
    "Uma",
    "Viktor",
    "Wanjiru",
    "Xavier",
    "Yara",
    "Zoë",
];

const LAST_NAMES: &[&str] = &[
    "Abara",
    "Andersson",
    "Bauer",
    "Bianchi",
    "Castillo",
    "Çelik",
    "Dubois",
    "Eriksen",
    "Fischer",
    "García",
    "Haddad",
    "Ito",
    "Jansen",
    "Kaya",
    "Kim",
    "Kovács",
    "Lindqvist",
    "Moreau",
    "Müller",
    "Mwangi",
    "Novák",
    "O'Brien",
    "Okafor",
    "Patel",
    "Petrova",
    "Quispe",
    "Rossi",
    "Sato",
    "Schmidt",
    "Silva",
    "Tanaka",
    "Thompson",
    "Ueda",
    "Varga",
    "Weber",
    "Wójcik",
    "Yilmaz",
    "Zhang",
];

const COMPANY_FIRST: &[&str] = &[
    "Northwind",
    "Blue Harbor",
    "Ember",
    "Cedar",
    "Quartz",
    "Lumen",
    "Meridian",
    "Polar",
    "Juniper",
    "Granite",
    "Saffron",
    "Willow",
    "Atlas",
    "Copper",
    "Drift",
];

const COMPANY_SECOND: &[&str] = &[
    "Traders",
    "Analytics",
    "Foods",
    "Robotics",
    "Logistics",
    "Studios",
    "Energy",
    "Health",
    "Textiles",
    "Partners",
    "Systems",
    "Works",
];

const CITIES: &[(&str, &str)] = &[
    ("Lisbon", "PT"),
    ("Gdańsk", "PL"),
    ("Montréal", "CA"),
    ("Nairobi", "KE"),
    ("São Paulo", "BR"),
    ("Zürich", "CH"),
    ("Malmö", "SE"),
    ("Busan", "KR"),
    ("Austin", "US"),
    ("Pune", "IN"),
];

const JOBS: &[&str] = &[
    "Account executive",
    "Buyer",
    "CEO",
    "CTO",
    "Data engineer",
    "Designer",
    "Head of sales",
    "Office manager",
    "Operations lead",
    "Procurement",
    "Product manager",
    "Support lead",
];

const TAGS: &[&str] =
    &["vip", "newsletter", "partner", "churn risk", "conference", "trial", "reference"];

const DEALS: &[&str] = &[
    "Annual licence",
    "Pilot project",
    "Renewal",
    "Onboarding package",
    "Site rollout",
    "Support contract",
    "Data migration",
    "Extra seats",
    "Hardware refresh",
    "Training days",
];

const TASKS: &[&str] = &[
    "Send the offer",
    "Call back",
    "Prepare the demo",
    "Check the contract",
    "Book a meeting",
    "Update the forecast",
    "Ask for a reference",
    "Send the invoice",
    "Fix the address",
];

const NOTES: &[&str] = &[
    "Met at the trade fair",
    "Call about pricing",
    "Asked for a discount",
    "Security questions",
    "Wants a second demo",
    "Budget approved",
    "Contract sent",
    "Quiet since March",
];

const SENTENCES: &[&str] = &[
    "They compare us with two others.",
    "Decision expected by the end of the quarter.",
    "Legal wants to see the data processing terms.",
    "Very happy with the pilot.",
    "Prefers mail to phone calls.",
    "\"No surprises\", she said, twice.",
    "Follow up next week.",
    "Needs single sign-on → see the wiki.",
    "The budget moved to next year.",
];

const COLLEAGUES: &[&str] = &["mira", "tom", "jo", "selin", "ravi"];

/// Someone who signs up.
pub(super) struct Person {
    pub(super) first_name: &'static str,
    pub(super) last_name: &'static str,
    pub(super) email: String,
    pub(super) job_title: Option<&'static str>,
    pub(super) phones: String,
}

/// Someone new, with an address nobody has yet.
pub(super) fn person(rng: &mut impl Rng) -> Person {
    let (first_name, last_name) = (pick(rng, FIRST_NAMES), pick(rng, LAST_NAMES));
    let job_title = rng.random_bool(0.8).then(|| pick(rng, JOBS));
    let phones = if rng.random_bool(0.4) {
        format!(r#"[{{"kind": "mobile", "number": "{}"}}]"#, phone(rng))
    } else {
        "[]".to_owned()
    };
    Person { first_name, last_name, email: email(rng, first_name), job_title, phones }
}

/// A mail address for `name` that nobody has yet.
pub(super) fn email(rng: &mut impl Rng, name: &str) -> String {
    let name: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    format!("{}.{:06x}@mail.example", name.to_ascii_lowercase(), rng.random_range(0..1u64 << 40))
}

pub(super) fn phone(rng: &mut impl Rng) -> String {
    format!(
        "+{} {:03} {:06}",
        rng.random_range(1..99),
        rng.random_range(100..999),
        rng.random_range(0..999_999)
    )
}

pub(super) fn company(rng: &mut impl Rng) -> String {
    format!("{} {}", pick(rng, COMPANY_FIRST), pick(rng, COMPANY_SECOND))
}

/// An address as the JSON text of its object.
pub(super) fn address(rng: &mut impl Rng) -> String {
    let (city, country) = CITIES.choose(rng).copied().unwrap_or(("Lisbon", "PT"));
    format!(
        r#"{{"city": "{city}", "country": "{country}", "zip": "{:05}"}}"#,
        rng.random_range(0..99_999)
    )
}

pub(super) fn job(rng: &mut impl Rng) -> &'static str {
    pick(rng, JOBS)
}

pub(super) fn tag(rng: &mut impl Rng) -> &'static str {
    pick(rng, TAGS)
}

pub(super) fn deal(rng: &mut impl Rng) -> &'static str {
    pick(rng, DEALS)
}

pub(super) fn task(rng: &mut impl Rng) -> &'static str {
    pick(rng, TASKS)
}

pub(super) fn note_title(rng: &mut impl Rng) -> &'static str {
    pick(rng, NOTES)
}

pub(super) fn colleague(rng: &mut impl Rng) -> &'static str {
    pick(rng, COLLEAGUES)
}

/// Mostly a few sentences; now and then a page so long that Postgres stores it out of line.
pub(super) fn note_body(rng: &mut impl Rng) -> String {
    let sentences = if rng.random_bool(0.05) { 400 } else { rng.random_range(1..4) };
    let mut body = String::new();
    for place in 0..sentences {
        if place > 0 {
            body.push(if place % 3 == 0 { '\n' } else { ' ' });
        }
        body.push_str(pick(rng, SENTENCES));
    }
    body
}

fn pick(rng: &mut impl Rng, from: &[&'static str]) -> &'static str {
    from.choose(rng).copied().unwrap_or_default()
}
