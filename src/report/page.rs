//! The report: what a run did and found → one HTML page that opens offline.
//!
//! Plots are inline SVG in the colours of the page, pictures are inline JPEG; nothing is fetched.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// All that the page shows, in words and pictures.
#[derive(Debug, Default)]
pub struct Page {
    /// Where the run is.
    pub title: String,
    /// Large figures at the top: what, how much.
    pub figures: Vec<(String, String)>,
    /// The sections in their order; those without content are left out.
    pub sections: Vec<Section>,
    /// Where the page shows what a cell of a table names: `#` and the picture's id.
    pub links: BTreeMap<String, String>,
}

/// A heading with what stands below it.
#[derive(Debug, Default)]
pub struct Section {
    /// The heading.
    pub heading: String,
    /// What to make of it, in a sentence or two.
    pub text: String,
    /// Plots as SVG.
    pub plots: Vec<String>,
    /// A table.
    pub table: Option<Table>,
    /// Pictures with their captions.
    pub pictures: Vec<Picture>,
}

/// A table; columns of numbers are set right.
#[derive(Debug, Default)]
pub struct Table {
    /// Heads of the columns.
    pub head: Vec<String>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<String>>,
}

/// A picture.
#[derive(Debug)]
pub struct Picture {
    /// What links call it.
    pub id: String,
    /// What it shows.
    pub caption: String,
    /// JPEG data.
    pub jpeg: Vec<u8>,
}

const STYLE: &str = "
:root { color-scheme: light dark; --ground: #fff; --ink: #1b1f24; --soft: #5b6570; --line: #d8dee4; --tile: #f4f6f8; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181d; --ink: #e6eaee; --soft: #9aa5b1; --line: #323a43; --tile: #1d232a; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 1.25rem; background: var(--ground); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: .25rem 0 1rem; }
h2 { font-size: 1.15rem; margin: 2.25rem 0 .25rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p { margin: .25rem 0 .75rem; color: var(--soft); max-width: 75ch; }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: .6rem; margin: 0; }
dl div { background: var(--tile); border-radius: 8px; padding: .6rem .8rem; }
dt { color: var(--soft); font-size: .85rem; }
dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 1rem; }
svg, img { width: 100%; height: auto; display: block; }
figure { margin: 0; }
figcaption { color: var(--soft); font-size: .9rem; margin-top: .3rem; }
figure:target { outline: 3px solid #d55e00; outline-offset: 3px; }
a { color: inherit; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; width: 100%; overflow-wrap: normal; }
th, td { text-align: left; padding: .35rem .7rem .35rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; }
th.number { text-align: right; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
";

impl Page {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut html = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <link rel=\"icon\" href=\"data:,\">\n\
             <title>{0}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{0}</h1>\n<dl>\n",
            escape(&self.title)
        );
        // Writing to a String cannot fail.
        for (what, how_much) in &self.figures {
            let (what, how_much) = (escape(what), escape(how_much));
            let _ = writeln!(html, "<div><dt>{what}</dt><dd>{how_much}</dd></div>");
        }
        html.push_str("</dl>\n");
        for section in self.sections.iter().filter(|section| !section.is_empty()) {
            section.write(&mut html, &self.links);
        }
        html.push_str("</body>\n</html>\n");
        html
    }
}

impl Section {
    fn is_empty(&self) -> bool {
        let no_table = self.table.as_ref().is_none_or(|table| table.rows.is_empty());
        no_table && self.plots.is_empty() && self.pictures.is_empty() && self.text.is_empty()
    }

    fn write(&self, html: &mut String, links: &BTreeMap<String, String>) {
        let _ = writeln!(html, "<section>\n<h2>{}</h2>", escape(&self.heading));
        if !self.text.is_empty() {
            let _ = writeln!(html, "<p>{}</p>", escape(&self.text));
        }
        if !self.plots.is_empty() || !self.pictures.is_empty() {
            html.push_str("<div class=\"row\">\n");
            for plot in &self.plots {
                let _ = writeln!(html, "<figure>{}</figure>", themed(plot));
            }
            for Picture { id, caption, jpeg } in &self.pictures {
                let (id, caption) = (escape(id), escape(caption));
                let _ = writeln!(
                    html,
                    "<figure id=\"{id}\"><img alt=\"{caption}\" src=\"data:image/jpeg;base64,{}\">\
                     <figcaption>{caption}</figcaption></figure>",
                    STANDARD.encode(jpeg)
                );
            }
            html.push_str("</div>\n");
        }
        if let Some(table) = self.table.as_ref().filter(|table| !table.rows.is_empty()) {
            table.write(html, links);
        }
        html.push_str("</section>\n");
    }
}

impl Table {
    fn write(&self, html: &mut String, links: &BTreeMap<String, String>) {
        html.push_str("<div class=\"scroll\"><table>\n<tr>");
        for (column, cell) in self.head.iter().enumerate() {
            let numbers = self.rows.iter().any(|row| row.get(column).is_some_and(|c| is_number(c)));
            let _ = write!(html, "<th{}>{}</th>", class(numbers), escape(cell));
        }
        html.push_str("</tr>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for cell in row {
                let text = match links.get(cell) {
                    Some(link) => format!("<a href=\"{}\">{}</a>", escape(link), escape(cell)),
                    None => escape(cell),
                };
                let _ = write!(html, "<td{}>{text}</td>", class(is_number(cell)));
            }
            html.push_str("</tr>\n");
        }
        html.push_str("</table></div>\n");
    }
}

fn is_number(cell: &str) -> bool {
    cell.trim_end_matches([' ', '%', 's']).parse::<f64>().is_ok()
}

fn class(number: bool) -> &'static str {
    if number { " class=\"number\"" } else { "" }
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A plot in the colours of the page: black becomes its ink, white its ground.
fn themed(svg: &str) -> String {
    let svg = svg.replace("#000000", "currentColor").replace("#FFFFFF", "var(--ground)");
    // An XML prologue has no place inside HTML.
    svg.find("<svg").map_or(String::new(), |start| svg[start..].to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_page() {
        let page = Page {
            title: "<script>&".into(),
            sections: vec![Section {
                heading: "failures".into(),
                table: Some(Table {
                    head: vec!["micrograph".into(), "n".into()],
                    rows: vec![vec!["a\"<b>.mrc".into(), "12".into()]],
                }),
                ..Section::default()
            }],
            ..Page::default()
        };
        let html = page.html();
        assert!(!html.contains("<script>") && !html.contains("<b>"));
        assert!(html.contains("&lt;script&gt;&amp;") && html.contains("a&quot;&lt;b&gt;.mrc"));
        assert!(html.contains("<td class=\"number\">12</td>"));
    }

    #[test]
    fn nothing_is_fetched_from_elsewhere() {
        let picture = Picture { id: "p".into(), caption: "a".into(), jpeg: vec![1, 2, 3] };
        let section = Section { pictures: vec![picture], ..Section::default() };
        let html = Page { sections: vec![section], ..Page::default() }.html();
        assert!(html.contains("data:image/jpeg;base64,AQID"));
        assert!(!html.contains("http://") && !html.contains("https://"));
    }

    #[test]
    fn a_name_in_a_table_leads_to_its_picture() {
        let id = "picture-3".to_string();
        let pictures = vec![Picture { id, caption: "best: a&b.mrc".into(), jpeg: vec![1] }];
        let rows = ["a&b.mrc", "c.mrc"].map(|name| vec![name.to_string()]).to_vec();
        let table = Some(Table { head: vec!["micrograph".into()], rows });
        let links = BTreeMap::from([("a&b.mrc".to_string(), "#picture-3".to_string())]);
        let sections = vec![Section { table, pictures, ..Section::default() }];
        let html = Page { sections, links, ..Page::default() }.html();
        assert!(html.contains("<td><a href=\"#picture-3\">a&amp;b.mrc</a></td>"), "{html}");
        assert!(html.contains("<td>c.mrc</td>") && html.contains("<figure id=\"picture-3\">"));
    }

    #[test]
    fn empty_sections_are_left_out() {
        let section = Section { heading: "rounds".into(), ..Section::default() };
        assert!(!Page { sections: vec![section], ..Page::default() }.html().contains("rounds"));
    }
}
