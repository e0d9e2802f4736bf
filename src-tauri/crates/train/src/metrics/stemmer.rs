//! The Porter stemmer in the form that ROUGE is measured with.
//!
//! Porter, "An algorithm for suffix stripping" (1980), with the deviations of NLTK's `PorterStemmer` in its default mode, which
//! `rouge_score` uses: irregular words, `ies` and `ied` of short words, `y` after a consonant, and a few suffixes more. The
//! snowball stemmers that are to be had as crates give other stems.

/// Words that the rules get wrong, and their stems.
const IRREGULAR: &[(&str, &str)] = &[
    ("sky", "sky"),
    ("skies", "sky"),
    ("dying", "die"),
    ("lying", "lie"),
    ("tying", "tie"),
    ("news", "news"),
    ("innings", "inning"),
    ("inning", "inning"),
    ("outings", "outing"),
    ("outing", "outing"),
    ("cannings", "canning"),
    ("canning", "canning"),
    ("howe", "howe"),
    ("proceed", "proceed"),
    ("exceed", "exceed"),
    ("succeed", "succeed"),
];

/// Step 1a: plurals.
const PLURALS: &[(&str, &str)] = &[("sses", "ss"), ("ies", "i"), ("ss", "ss"), ("s", "")];

/// Step 2: double suffixes, replaced after a stem of a vowel and a consonant at least. The first that a word ends with
/// decides.
const DOUBLE: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("bli", "ble"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
    ("fulli", "ful"),
];

/// Step 3, as step 2.
const SINGLE: &[(&str, &str)] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];

/// Step 4: suffixes that go after a stem that has a vowel and a consonant twice.
const LAST: &[&str] = &[
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism",
    "ate", "iti", "ous", "ive", "ize",
];

/// The stem of a word of lower-case ASCII letters and digits.
pub fn stem(word: &str) -> String {
    if let Some((_, stem)) = IRREGULAR.iter().find(|(irregular, _)| *irregular == word) {
        return (*stem).to_owned();
    }
    if word.len() <= 2 {
        return word.to_owned();
    }
    let word = without_plural(word);
    let word = without_past(&word);
    let word = with_i(&word);
    let word = without_double_suffix(&word);
    let word = replaced(&word, SINGLE);
    let word = without_last_suffix(&word);
    let word = without_e(word);
    match word.strip_suffix('l') {
        // Step 5b.
        Some(shorter) if shorter.ends_with('l') && measure(shorter) > 1 => shorter.to_owned(),
        _ => word.to_owned(),
    }
}

/// Step 1a.
fn without_plural(word: &str) -> String {
    if word.len() == 4
        && let Some(stem) = word.strip_suffix("ies")
    {
        return format!("{stem}ie");
    }
    let rule = PLURALS.iter().find_map(|(suffix, new)| Some(format!("{}{new}", word.strip_suffix(suffix)?)));
    rule.unwrap_or_else(|| word.to_owned())
}

/// Step 1b: `ed` and `ing`.
fn without_past(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("ied") {
        return format!("{stem}{}", if word.len() == 4 { "ie" } else { "i" });
    }
    if let Some(stem) = word.strip_suffix("eed") {
        return if measure(stem) > 0 { format!("{stem}ee") } else { word.to_owned() };
    }
    let stem =
        ["ed", "ing"].iter().find_map(|suffix| word.strip_suffix(suffix).filter(|stem| has_vowel(stem)));
    let Some(stem) = stem else { return word.to_owned() };
    if ["at", "bl", "iz"].iter().any(|end| stem.ends_with(end)) {
        return format!("{stem}e");
    }
    match stem.as_bytes() {
        [.., a, b] if a == b && consonants(stem).last() == Some(&true) => {
            let single = stem.get(..stem.len() - 1).filter(|_| !b"lsz".contains(b));
            single.unwrap_or(stem).to_owned()
        }
        _ if measure(stem) == 1 && ends_short(stem) => format!("{stem}e"),
        _ => stem.to_owned(),
    }
}

/// Step 1c: `y` after a consonant that does not begin the word.
fn with_i(word: &str) -> String {
    match word.strip_suffix('y') {
        Some(stem) if stem.len() > 1 && consonants(stem).last() == Some(&true) => format!("{stem}i"),
        _ => word.to_owned(),
    }
}

/// Step 2.
fn without_double_suffix(word: &str) -> String {
    if let Some(stem) = word.strip_suffix("alli")
        && measure(stem) > 0
    {
        return without_double_suffix(&format!("{stem}al"));
    }
    // The l belongs to the stem, so that short ones (geo, theo) count.
    if let Some(stem) = word.strip_suffix("ogi").filter(|stem| stem.ends_with('l')) {
        return if measure(stem) > 0 { format!("{stem}og") } else { word.to_owned() };
    }
    replaced(word, DOUBLE)
}

fn replaced(word: &str, rules: &[(&str, &str)]) -> String {
    let rule = rules.iter().find_map(|(suffix, new)| Some((word.strip_suffix(suffix)?, new)));
    match rule {
        Some((stem, new)) if measure(stem) > 0 => format!("{stem}{new}"),
        _ => word.to_owned(),
    }
}

/// Step 4.
fn without_last_suffix(word: &str) -> &str {
    let rule = LAST.iter().find_map(|suffix| Some((word.strip_suffix(suffix)?, *suffix)));
    match rule {
        Some((stem, "ion")) if !stem.ends_with(['s', 't']) => word,
        Some((stem, _)) if measure(stem) > 1 => stem,
        _ => word,
    }
}

/// Step 5a.
fn without_e(word: &str) -> &str {
    match word.strip_suffix('e') {
        Some(stem) if measure(stem) > 1 || (measure(stem) == 1 && !ends_short(stem)) => stem,
        _ => word,
    }
}

/// Whether each letter is a consonant: all but vowels, and `y` unless it follows one.
fn consonants(word: &str) -> Vec<bool> {
    let mut flags: Vec<bool> = Vec::with_capacity(word.len());
    for letter in word.bytes() {
        let after_consonant = flags.last() == Some(&true);
        flags.push(!(b"aeiou".contains(&letter) || (letter == b'y' && after_consonant)));
    }
    flags
}

/// How often a consonant follows a vowel: `m` of the paper.
fn measure(word: &str) -> usize {
    consonants(word).windows(2).filter(|pair| *pair == [false, true]).count()
}

fn has_vowel(word: &str) -> bool {
    consonants(word).contains(&false)
}

/// Whether it ends in consonant, vowel, consonant but `w`, `x` or `y`; or is a vowel and a consonant.
fn ends_short(word: &str) -> bool {
    match consonants(word).as_slice() {
        [false, true] => true,
        [.., true, false, true] => !word.ends_with(['w', 'x', 'y']),
        _ => false,
    }
}
