//! Chat templates: where they come from, what they can call, and that a hostile one ends.

use data::{ChatTemplate, DataError, PLAIN, Tokenizer};
use serde_json::json;
use types::Message;

use crate::support::{CHATML, exchange, model_dir};

fn render(source: &str, messages: &[Message], open: bool) -> Result<String, DataError> {
    let variables = [("bos_token".to_owned(), "<s>".to_owned()), ("eos_token".to_owned(), "</s>".to_owned())];
    ChatTemplate::new(source, "t.jinja", &variables)?.render(messages, open)
}

#[test]
fn a_model_without_a_template_gets_the_plain_one() {
    let messages = [vec![Message::system("S")], exchange("Q", "A")].concat();
    assert_eq!(
        render(PLAIN, &messages, false).unwrap(),
        "S\n\n### User:\nQ\n\n### Assistant:\nA</s>\n\n",
        "headings, and the end of each answer"
    );
    let closed = render(PLAIN, &messages, false).unwrap();
    let open = render(PLAIN, &messages[..2], true).unwrap();
    assert!(closed.starts_with(&open), "the prompt is the beginning of the whole");
    let dir = model_dir("byte-level", &[("tokenizer_config.json", json!({"eos_token": "<|im_end|>"}))]);
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    assert!(!tokenizer.has_own_template());
    assert_eq!(
        tokenizer.render(&exchange("Q", "A"), false).unwrap(),
        "### User:\nQ\n\n### Assistant:\nA<|im_end|>\n\n"
    );
}

#[test]
fn the_file_comes_before_the_setting_and_default_before_other_names() {
    let check = |template: serde_json::Value, file: Option<&str>, want: &str| {
        let config = json!({"eos_token": {"content": "<|im_end|>"}, "chat_template": template});
        let mut files = vec![("tokenizer_config.json", config)];
        files.extend(file.map(|source| ("chat_template.jinja", source.into())));
        let tokenizer = Tokenizer::load(model_dir("byte-level", &files).path()).unwrap();
        assert_eq!(tokenizer.render(&[], false).unwrap(), want);
    };
    let named =
        json!([{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "default"}]);
    check("setting".into(), None, "setting");
    check("setting".into(), Some("file"), "file");
    check(named, None, "default");
    let config = json!({"eos_token": "<|im_end|>", "chat_template": [{"name": "rag", "template": "x"}]});
    let dir = model_dir("byte-level", &[("tokenizer_config.json", config)]);
    let error = Tokenizer::load(dir.path()).map(drop).unwrap_err().to_string();
    assert!(error.ends_with("chat_template has no template named \"default\""), "{error}");
}

#[test]
fn what_transformers_gives_to_templates() {
    let check = |source: &str, want: &str| {
        let got = render(source, &[Message::user("a <b> & 'ü'\n\"")], false);
        assert_eq!(got.unwrap(), want, "{source}");
    };
    check("{{ messages[0].content | tojson }}", r#""a <b> & 'ü'\n\"""#);
    check("{{ messages[0] | tojson }}", r#"{"role": "user", "content": "a <b> & 'ü'\n\""}"#);
    check("{{ messages[0].content | tojson(ensure_ascii=true) }}", r#""a <b> & '\u00fc'\n\"""#);
    check("{{ [1, 2.5, true, none, {'k': []}] | tojson }}", "[1, 2.5, true, null, {\"k\": []}]");
    check("{{ [1, {'k': 2}] | tojson(indent=2) }}", "[\n  1,\n  {\n    \"k\": 2\n  }\n]");
    check("{{ {'b': 1, 'a': 2} | tojson(sort_keys=true, separators=[',', ':']) }}", r#"{"a":2,"b":1}"#);
    check(
        "{{ bos_token }}{{ eos_token }}{{ pad_token }}{% if tools is none %}no tools{% endif %}",
        "<s></s>no tools",
    );
    check("{% if true %}\n  x\n  {% endif %}\ny\n", "  x\ny");
    check("{{ messages[0].content.split(' ')[0].upper() }}{{ ' x '.strip() }}", "Ax");
    check("{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}", "01");
    check("a {%- generation -%} b {%- endgeneration %} c", "ab c");
    let year = render("{{ strftime_now('%Y') }}", &[], false).unwrap();
    assert!(year.len() == 4 && *year >= *"2024", "strftime_now tells today: {year}");
}

#[test]
fn errors_name_the_template_and_its_line() {
    let check = |source: &str, line: usize, want: &str| {
        let error = render(source, &[], false).unwrap_err();
        let DataError::Template { line: found, .. } = &error else { panic!("{error}") };
        assert_eq!(*found, line, "{source}: {error}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("t.jinja:{line}: ")) && text.contains(want), "{source}: {text}");
    };
    check("\n{{ raise_exception('Roles must alternate') }}", 2, "Roles must alternate");
    check("\n\n{% if %}", 3, "syntax error");
    check("{{ 1 | nonsense }}", 1, "nonsense");
    check("\n{{ strftime_now('%!') }}", 2, "strftime_now");
}

#[test]
fn a_hostile_template_ends() {
    let hostile = [
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ i * j }}{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'x' * 100000000000 }}",
        "{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
        "{% for i in range(90000) %}{{ 'xxxxxxxxxx' * 1000 }}{% endfor %}",
        "{{ [[[]] * 1000] * 1000000000 }}",
    ];
    for source in hostile {
        let error = render(source, &[], false).unwrap_err();
        assert!(matches!(error, DataError::Template { .. }), "{source}: {error}");
    }
    let long = "x".repeat((1 << 20) + 1);
    assert!(render(&long, &[], false).is_err(), "a template has at most a megabyte");
    let messages: Vec<Message> =
        (0..2000).flat_map(|i| exchange(&format!("q{i}"), &"long ".repeat(200))).collect();
    assert!(render(CHATML, &messages, false).is_ok(), "a long conversation is not hostile");
}
