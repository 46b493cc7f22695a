//! Dressing as a whole: merging, idempotence, and what graders of websites look for.
