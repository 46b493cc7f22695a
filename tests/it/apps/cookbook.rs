//! The cookbook: what its pages show is what the tests run.
use std::fs;
use std::path::Path;

#[test]
fn every_configuration_in_the_cookbook_is_one_that_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut blocks = 0;
    for page in fs::read_dir(root.join("docs/cookbook")).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&page).unwrap();
        // ```yaml tests/apps/NAME/FILE
        for block in text.split("\n```").filter(|block| block.contains(" tests/apps/")) {
            let Some((head, body)) = block.split_once('\n') else { continue };
            let Some((_, file)) = head.split_once(' ') else { continue };
            let tested =
                fs::read_to_string(root.join(file)).unwrap_or_else(|e| panic!("{}: {file}: {e}", page.display()));
            assert!(tested.contains(body), "{}: not in {file}:\n{body}", page.display());
            blocks += 1;
        }
    }
    assert!(blocks > 0);
}
