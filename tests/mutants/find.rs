//! Lists the mutants of Rust files: `find-mutants FILE...` prints one JSON object per line.
//!
//! ```text
//! {"file", "function", "outer": [start, end], "edit": [start, end, text], "body", "what", "line"}
//! ```
//!
//! Offsets are in bytes. The mutant of an expression is the text of `outer` with `edit` applied.
//! With `body`, `outer` is a function's block and the edit is a statement to put at its start.
//! Skipped: tests, const contexts, macros, and what only formats text.

use std::ops::Range;

use proc_macro2::Span;
use serde_json::json;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{BinOp, Expr, GenericArgument, PathArguments, ReturnType, Type, UnOp};

fn main() {
    for file in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let tree = syn::parse_file(&text).expect("a Rust file");
        let mut finder = Finder { file: &file, text: &text, functions: Vec::new() };
        finder.visit_file(&tree);
    }
}

struct Finder<'a> {
    file: &'a str,
    text: &'a str,
    /// The names of the modules, types and functions around, outermost first.
    functions: Vec<String>,
}

fn range(of: Span) -> Range<usize> {
    of.byte_range()
}

impl Finder<'_> {
    fn found(&self, outer: Range<usize>, edit: Range<usize>, text: &str, what: &str) {
        let line = 1 + self.text[..edit.start].matches('\n').count();
        println!(
            "{}",
            json!({
                "file": self.file, "function": self.functions.join("::"), "line": line,
                "outer": [outer.start, outer.end], "edit": [edit.start, edit.end, text],
                "body": false, "what": what,
            })
        );
    }

    fn swap(&self, outer: Span, at: Span, text: &str) {
        let old = &self.text[range(at)];
        self.found(range(outer), range(at), text, &format!("{old} -> {text}"));
    }

    fn negate(&self, condition: &Expr) {
        if has_let(condition) {
            return;
        }
        let at = range(condition.span());
        let text = &self.text[at.clone()];
        self.found(at.clone(), at, &format!("!({text})"), "negate the condition");
    }

    fn in_function(
        &mut self,
        signature: &syn::Signature,
        block: &syn::Block,
        name: &str,
        go: &dyn Fn(&mut Self),
    ) {
        if signature.constness.is_some() {
            return;
        }
        self.functions.push(name.to_string());
        let values = match &signature.output {
            ReturnType::Default => vec![String::new()],
            ReturnType::Type(_, kind) => values(kind),
        };
        let outer = range(block.span());
        let inside = self.text[outer.start + 1..outer.end - 1].trim();
        for value in values.into_iter().filter(|value| value != inside) {
            let line = 1 + self.text[..outer.start].matches('\n').count();
            println!(
                "{}",
                json!({
                    "file": self.file, "function": self.functions.join("::"), "line": line,
                    "outer": [outer.start, outer.end],
                    "edit": [outer.start + 1, outer.start + 1, format!("return {value};")],
                    "body": true, "what": format!("the whole body -> {}", if value.is_empty() { "()" } else { &value }),
                })
            );
        }
        go(self);
        self.functions.pop();
    }
}

fn has_let(expression: &Expr) -> bool {
    match expression {
        Expr::Let(_) => true,
        Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        Expr::Paren(inner) => has_let(&inner.expr),
        _ => false,
    }
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<syn::Path>().is_ok_and(|path| path.is_ident("test"))
    })
}

/// Values that a function might return instead of its own, as cargo-mutants chooses them.
fn values(kind: &Type) -> Vec<String> {
    let owned = |values: &[&str]| values.iter().map(|value| (*value).to_string()).collect();
    match kind {
        Type::Tuple(tuple) if tuple.elems.is_empty() => vec![String::new()],
        Type::Tuple(tuple) => {
            let first = |kind| values(kind).into_iter().next();
            let elements: Option<Vec<String>> = tuple.elems.iter().map(first).collect();
            elements.map(|elements| format!("({})", elements.join(", "))).into_iter().collect()
        }
        Type::Reference(inner) => match &*inner.elem {
            Type::Path(path) if path.path.is_ident("str") => owned(&["\"\"", "\"xyzzy\""]),
            _ => Vec::new(),
        },
        Type::Path(path) => {
            let Some(last) = path.path.segments.last() else { return Vec::new() };
            let argument = match &last.arguments {
                PathArguments::AngleBracketed(arguments) => {
                    arguments.args.iter().find_map(|argument| match argument {
                        GenericArgument::Type(kind) => Some(values(kind)),
                        _ => None,
                    })
                }
                _ => None,
            };
            let inner = argument.unwrap_or_default();
            let unit =
                |value: &String| if value.is_empty() { "()".to_string() } else { value.clone() };
            let wrapped = |with: &str| {
                inner.iter().map(|v| format!("{with}({})", unit(v))).collect::<Vec<_>>()
            };
            match last.ident.to_string().as_str() {
                "bool" => owned(&["true", "false"]),
                "u8" | "u16" | "u32" | "u64" | "usize" => owned(&["0", "1"]),
                "i8" | "i16" | "i32" | "i64" | "isize" => owned(&["0", "1", "-1"]),
                "f32" | "f64" => owned(&["0.0", "1.0", "-1.0"]),
                "String" => owned(&["String::new()", "\"xyzzy\".into()"]),
                "Vec" => {
                    let one = inner.iter().map(|value| format!("vec![{}]", unit(value)));
                    std::iter::once("vec![]".to_string()).chain(one).collect()
                }
                "Option" => std::iter::once("None".to_string()).chain(wrapped("Some")).collect(),
                "Result" => wrapped("Ok"),
                "Ordering" => owned(&["std::cmp::Ordering::Less", "std::cmp::Ordering::Greater"]),
                "Box" | "Arc" | "Rc" => Vec::new(),
                _ => owned(&["Default::default()"]),
            }
        }
        _ => Vec::new(),
    }
}

fn others(operator: &BinOp) -> &'static [&'static str] {
    match operator {
        BinOp::Add(_) => &["-", "*"],
        BinOp::Sub(_) => &["+", "/"],
        BinOp::Mul(_) => &["+", "/"],
        BinOp::Div(_) => &["*", "%"],
        BinOp::Rem(_) => &["/", "+"],
        BinOp::And(_) => &["||"],
        BinOp::Or(_) => &["&&"],
        BinOp::Lt(_) => &["<=", ">"],
        BinOp::Le(_) => &["<", ">"],
        BinOp::Gt(_) => &[">=", "<"],
        BinOp::Ge(_) => &[">", "<"],
        BinOp::Eq(_) => &["!="],
        BinOp::Ne(_) => &["=="],
        BinOp::BitAnd(_) => &["|", "^"],
        BinOp::BitOr(_) => &["&"],
        BinOp::BitXor(_) => &["|"],
        BinOp::Shl(_) => &[">>"],
        BinOp::Shr(_) => &["<<"],
        BinOp::AddAssign(_) => &["-=", "*="],
        BinOp::SubAssign(_) => &["+=", "/="],
        BinOp::MulAssign(_) => &["+=", "/="],
        BinOp::DivAssign(_) => &["*=", "-="],
        _ => &[],
    }
}

fn other_name(name: &str) -> Option<&'static str> {
    Some(match name {
        "ceil" => "floor",
        "floor" => "ceil",
        "round" => "floor",
        "min" => "max",
        "max" => "min",
        "min_by" => "max_by",
        "max_by" => "min_by",
        "min_by_key" => "max_by_key",
        "max_by_key" => "min_by_key",
        "any" => "all",
        "all" => "any",
        _ => return None,
    })
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_test(&module.attrs) {
            self.functions.push(module.ident.to_string());
            visit::visit_item_mod(self, module);
            self.functions.pop();
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        if !is_test(&function.attrs) {
            let name = function.sig.ident.to_string();
            self.in_function(&function.sig, &function.block, &name, &|finder| {
                visit::visit_block(finder, &function.block);
            });
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        let of = item.trait_.as_ref().and_then(|(_, path, _)| path.segments.last());
        let skipped = of
            .is_some_and(|of| ["Display", "Debug", "Default"].iter().any(|name| of.ident == name));
        if skipped || is_test(&item.attrs) {
            return;
        }
        let name = match &*item.self_ty {
            Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()),
            _ => None,
        };
        self.functions.push(name.unwrap_or_default());
        visit::visit_item_impl(self, item);
        self.functions.pop();
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !is_test(&function.attrs) {
            let name = function.sig.ident.to_string();
            self.in_function(&function.sig, &function.block, &name, &|finder| {
                visit::visit_block(finder, &function.block);
            });
        }
    }

    // Const contexts cannot ask which mutant is active.
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_type(&mut self, _: &'ast Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_expr_const(&mut self, _: &'ast syn::ExprConst) {}
    fn visit_expr_repeat(&mut self, repeat: &'ast syn::ExprRepeat) {
        self.visit_expr(&repeat.expr);
    }

    fn visit_expr_binary(&mut self, binary: &'ast syn::ExprBinary) {
        let logical = matches!(binary.op, BinOp::And(_) | BinOp::Or(_));
        if !logical || !has_let(&binary.left) && !has_let(&binary.right) {
            for text in others(&binary.op) {
                self.swap(binary.span(), binary.op.span(), text);
            }
        }
        visit::visit_expr_binary(self, binary);
    }

    fn visit_expr_unary(&mut self, unary: &'ast syn::ExprUnary) {
        let number = matches!(&*unary.expr, Expr::Lit(_));
        if matches!(unary.op, UnOp::Not(_)) || matches!(unary.op, UnOp::Neg(_)) && !number {
            let at = unary.op.span();
            let what = format!("delete {}", &self.text[range(at)]);
            self.found(range(unary.span()), range(at), "", &what);
        }
        visit::visit_expr_unary(self, unary);
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        if let Some(other) = other_name(&call.method.to_string()) {
            self.swap(call.span(), call.method.span(), other);
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &'ast syn::ExprPath) {
        let segments = &path.path.segments;
        if let (Some(last), true) = (segments.last(), segments.len() > 1)
            && let Some(other) = other_name(&last.ident.to_string())
        {
            self.swap(path.span(), last.ident.span(), other);
        }
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        let syn::Member::Named(name) = &field.member else { return };
        let name = name.to_string();
        let place =
            ["x", "y", "x0", "y0", "x1", "y1"].contains(&name.as_str()) || name.ends_with("_px");
        // `x` for `x: x` has nowhere to put the mutant.
        if place && field.colon_token.is_some() {
            let at = range(field.expr.span());
            let text = &self.text[at.clone()];
            for shift in ["0.5", "1"] {
                self.found(
                    at.clone(),
                    at.clone(),
                    &format!("({text}) + {shift}"),
                    &format!("{name} + {shift}"),
                );
            }
        }
        if field.colon_token.is_some() {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_expr_if(&mut self, branch: &'ast syn::ExprIf) {
        self.negate(&branch.cond);
        visit::visit_expr_if(self, branch);
    }

    fn visit_expr_while(&mut self, branch: &'ast syn::ExprWhile) {
        self.negate(&branch.cond);
        visit::visit_expr_while(self, branch);
    }

    fn visit_arm(&mut self, arm: &'ast syn::Arm) {
        if let Some((_, guard)) = &arm.guard {
            self.negate(guard);
        }
        visit::visit_arm(self, arm);
    }
}
