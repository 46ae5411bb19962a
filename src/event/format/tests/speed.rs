//! What formats cost. Run by hand, with optimisation:
//! `cargo test --release --lib format::tests::speed -- --ignored --nocapture`

use std::hint::black_box;
use std::time::Duration;

use super::*;

/// What this thread has had of the processor, which other work on the machine does not change.
fn cpu_time() -> Duration {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(status.split(' ').next().unwrap().parse().unwrap())
}

#[test]
#[ignore = "measures, and asserts nothing"]
fn cost_of_each_format() {
    let columns: Vec<_> =
        (0..10).map(|n| format!(r#""column_{n}":"value of column {n}""#)).collect();
    let row = format!(r#"{{"id":42,"price":99.50,{}}}"#, columns.join(","));
    let members =
        format!(r#""data":{row},"previous":{{"column_3":"old"}},"updatedFields":["column_3"]"#);
    let envelope = envelope(("person.updated", &members, TABLE));
    let event = subject("person.updated", &envelope);
    let mut formats: Vec<Format> = Format::NAMES.into_iter().map(named).collect();
    for text in [
        r#"{"text": "{{ event }}: {{ data.column_3 }} costs {{ data.price }}"}"#,
        r#"{"all": {{ data }}, "fields": [{% for key, value in data | items %}{"name": {{ key }}, "value": {{ value }}},{% endfor %}0]}"#,
    ] {
        formats.push(Format::Template(Arc::new(Template::new("a.json", text, None).unwrap())));
    }
    println!("envelope of {} bytes", envelope.len());
    for format in formats {
        let rounds = 200_000;
        let started = cpu_time();
        for _ in 0..rounds {
            black_box(format.render(black_box(&event)).unwrap());
        }
        let each = (cpu_time() - started) / rounds;
        let bytes = format.render(&event).unwrap().body.len();
        println!("{:>20} {each:>10.2?} {bytes:>6} bytes", format.name());
    }
}
