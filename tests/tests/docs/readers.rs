//! The pages of the four readers, and the glossary for all of them.

use crate::pages::{all_pages, prose, read};

const READERS: [&str; 4] = ["operator", "platform-engineer", "security-reviewer", "kernel-developer"];

/// Lines of a screen.
const SCREEN: usize = 45;

/// Returns what keeps a page from being the first one of a reader.
fn faults(page: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = page.lines().count();
    if lines > SCREEN {
        faults.push(format!("{lines} lines are more than a screen"));
    }
    let tasks: Vec<&str> = page.split("\n## ").skip(1).collect();
    if tasks.len() != 5 {
        faults.push(format!("{} tasks instead of five", tasks.len()));
    }
    let without_link = tasks.iter().filter(|task| !task.contains("]("));
    faults.extend(without_link.map(|task| format!("no link in {:?}", task.lines().next().unwrap_or_default())));
    faults
}

#[test]
fn each_reader_has_a_screen_with_five_tasks() {
    let (home, index) = (read("README.md"), read("docs/README.md"));
    for reader in READERS {
        assert_eq!(faults(&read(format!("docs/{reader}.md"))), [""; 0], "{reader}");
        assert!(home.contains(&format!("(docs/{reader}.md)")) && index.contains(&format!("({reader}.md)")), "{reader}");
    }
    let long = format!("# A\n{}## b\n[c](d)\n\n## e\n", "\n".repeat(SCREEN));
    assert_eq!(faults(&long), ["50 lines are more than a screen", "2 tasks instead of five", "no link in \"e\""]);
}

/// Returns the rows of the glossary: term and meaning.
fn terms(page: &str) -> Vec<(&str, &str)> {
    let rows = prose(page).filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
    rows.filter(|(term, _)| *term != "term").collect()
}

/// Returns what is wrong with a glossary; `pages` are the others, in lower case and each on one line.
fn wrong(glossary: &str, pages: &[String]) -> Vec<String> {
    let terms = terms(glossary);
    let unsorted = terms.windows(2).filter(|two| two[0].0.to_lowercase() >= two[1].0.to_lowercase());
    let mut wrong: Vec<_> = unsorted.map(|two| format!("{} is not before {}", two[0].0, two[1].0)).collect();
    let used = |term: &str| pages.iter().any(|page| page.contains(&term.to_lowercase()));
    for (term, meaning) in &terms {
        if !used(term) {
            wrong.push(format!("no page uses {term}"));
        }
        if !meaning.contains("](") {
            wrong.push(format!("no link for {term}"));
        }
    }
    wrong
}

#[test]
fn the_glossary_is_sorted_linked_and_in_use() {
    let glossary = read("docs/glossary.md");
    let other = all_pages().into_iter().filter(|path| !path.ends_with("docs/glossary.md"));
    let words = |page: String| page.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let pages: Vec<String> = other.map(|path| words(read(path))).collect();
    assert!(terms(&glossary).len() > 30, "{:?}", terms(&glossary));
    assert_eq!(wrong(&glossary, &pages), [""; 0]);
    let page = "| term | meaning |\n|---|---|\n| b | of: [x](y) |\n| A c | of |\n| A c | [x](y) |\n";
    let found = wrong(page, &["a c".to_owned()]);
    assert_eq!(found, ["b is not before A c", "A c is not before A c", "no page uses b", "no link for A c"],);
}
