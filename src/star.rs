//! STAR: text ⇄ tables, tokenised as RELION does.
