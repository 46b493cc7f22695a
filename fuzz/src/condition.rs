//! `decide::condition`: whatever stands under `when` compiles or is a problem in words.
use decide::condition::Condition;

pub fn run(data: &[u8]) {
    let Ok(source) = std::str::from_utf8(data) else { return };
    match Condition::compile(source) {
        Ok(condition) => assert_eq!(condition.source(), source),
        Err(message) => assert!(!message.is_empty() && !message.contains('\n')),
    }
}
