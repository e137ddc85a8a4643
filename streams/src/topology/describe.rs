//! The plan as text, and as a drawing in DOT or Mermaid.

use std::fmt::{self, Write as _};

use super::{Node, NodeKind, SinkTopic, Topology};

/// How [`Topology::describe_as`] draws the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PlanFormat {
    /// Lines for people; golden tests compare them.
    #[default]
    Text,
    /// For Graphviz: `dot -Tsvg`.
    Dot,
    /// For Mermaid, which many sites draw within Markdown.
    Mermaid,
}

impl Topology {
    /// The plan as text, sub-topology by sub-topology; golden tests compare it.
    #[must_use]
    pub fn describe(&self) -> String {
        self.to_string()
    }

    /// The plan in one of several formats. Topics are drawn where they are read and written, stores beside the processors
    /// that use them.
    ///
    /// ```
    /// use headwater_streams::{PlanFormat, StreamsBuilder};
    /// let builder = StreamsBuilder::new();
    /// builder.stream::<String, String>("in").to("out");
    /// let topology = builder.build()?;
    /// assert!(topology.describe_as(PlanFormat::Dot).starts_with("digraph topology {"));
    /// assert!(topology.describe_as(PlanFormat::Mermaid).starts_with("flowchart TD"));
    /// # Ok::<(), headwater_core::Error>(())
    /// ```
    #[must_use]
    pub fn describe_as(&self, format: PlanFormat) -> String {
        match format {
            PlanFormat::Text => self.describe(),
            PlanFormat::Dot => self.draw(&Dot),
            PlanFormat::Mermaid => self.draw(&Mermaid),
        }
    }

    fn draw(&self, pen: &dyn Pen) -> String {
        let mut drawn = format!("{}\n", pen.begin());
        for subtopology in 0..self.subtopologies() {
            let _ = writeln!(drawn, "  {}", pen.begin_group(subtopology));
            for (id, node) in self.nodes_of(subtopology) {
                let _ =
                    writeln!(drawn, "    {}", pen.node(&format!("n{}", id.0), &node.name, Shape::Processor));
            }
            for store in self.stores_of(subtopology) {
                let name = &self.stores[store].name;
                let _ = writeln!(drawn, "    {}", pen.node(&format!("s{store}"), name, Shape::Store));
            }
            let _ = writeln!(drawn, "  {}", pen.end_group());
        }
        let mut topics: Vec<String> = Vec::new();
        let mut edges = Vec::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let own = format!("n{id}");
            if let Some(topic) = node.topic() {
                let at = topics.iter().position(|known| *known == topic).unwrap_or(topics.len());
                if at == topics.len() {
                    topics.push(topic);
                }
                let topic = format!("t{at}");
                let reads = matches!(node.kind, NodeKind::Source { .. });
                let (from, to) = if reads { (topic, own.clone()) } else { (own.clone(), topic) };
                edges.push(pen.edge(&from, &to, false));
            }
            if let NodeKind::Processor { stores, .. } = &node.kind {
                edges.extend(stores.iter().map(|store| pen.edge(&own, &format!("s{store}"), true)));
            }
            edges.extend(node.children.iter().map(|child| pen.edge(&own, &format!("n{}", child.0), false)));
        }
        for (at, topic) in topics.iter().enumerate() {
            let _ = writeln!(drawn, "  {}", pen.node(&format!("t{at}"), topic, Shape::Topic));
        }
        for edge in edges {
            let _ = writeln!(drawn, "  {edge}");
        }
        drawn + pen.end()
    }
}

impl Node {
    /// The topic that it reads or writes, as people know it.
    fn topic(&self) -> Option<String> {
        match &self.kind {
            NodeKind::Source { topic, .. } | NodeKind::Sink { topic: SinkTopic::Fixed(topic), .. } => {
                Some(topic.to_string())
            }
            NodeKind::Sink { topic: SinkTopic::Computed, .. } => Some("computed".to_owned()),
            NodeKind::Processor { .. } => None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Shape {
    Processor,
    Store,
    Topic,
}

/// A language for drawings. Names are those of topics and stores, which need no escapes, and our own.
trait Pen {
    fn begin(&self) -> &'static str;
    fn begin_group(&self, subtopology: u32) -> String;
    fn end_group(&self) -> &'static str;
    fn node(&self, id: &str, name: &str, shape: Shape) -> String;
    fn edge(&self, from: &str, to: &str, to_store: bool) -> String;
    fn end(&self) -> &'static str;
}

struct Dot;

impl Pen for Dot {
    fn begin(&self) -> &'static str {
        "digraph topology {"
    }

    fn begin_group(&self, subtopology: u32) -> String {
        format!("subgraph cluster_{subtopology} {{ label=\"sub-topology {subtopology}\";")
    }

    fn end_group(&self) -> &'static str {
        "}"
    }

    fn node(&self, id: &str, name: &str, shape: Shape) -> String {
        let shape = match shape {
            Shape::Processor => "box",
            Shape::Store => "cylinder",
            Shape::Topic => "cds",
        };
        format!("{id} [label=\"{name}\", shape={shape}];")
    }

    fn edge(&self, from: &str, to: &str, to_store: bool) -> String {
        if to_store {
            format!("{from} -> {to} [style=dashed, dir=none];")
        } else {
            format!("{from} -> {to};")
        }
    }

    fn end(&self) -> &'static str {
        "}\n"
    }
}

struct Mermaid;

impl Pen for Mermaid {
    fn begin(&self) -> &'static str {
        "flowchart TD"
    }

    fn begin_group(&self, subtopology: u32) -> String {
        format!("subgraph sub{subtopology}[\"sub-topology {subtopology}\"]")
    }

    fn end_group(&self) -> &'static str {
        "end"
    }

    fn node(&self, id: &str, name: &str, shape: Shape) -> String {
        match shape {
            Shape::Processor => format!("{id}[\"{name}\"]"),
            Shape::Store => format!("{id}[(\"{name}\")]"),
            Shape::Topic => format!("{id}>\"{name}\"]"),
        }
    }

    fn edge(&self, from: &str, to: &str, to_store: bool) -> String {
        if to_store { format!("{from} -.- {to}") } else { format!("{from} --> {to}") }
    }

    fn end(&self) -> &'static str {
        ""
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for subtopology in 0..self.subtopologies() {
            writeln!(f, "sub-topology {subtopology}")?;
            let width = self.nodes_of(subtopology).map(|(_, n)| n.name.len()).max().unwrap_or(0);
            for (_, node) in self.nodes_of(subtopology) {
                let topic =
                    |node: &Node| node.topic().map_or_else(String::new, |topic| format!("topic {topic}"));
                let (kind, what) = match &node.kind {
                    NodeKind::Source { .. } => ("source", topic(node)),
                    NodeKind::Sink { .. } => ("sink", topic(node)),
                    NodeKind::Processor { stores, .. } if stores.is_empty() => ("processor", String::new()),
                    NodeKind::Processor { stores, .. } => {
                        let names: Vec<_> = stores.iter().map(|s| self.stores[*s].name.as_str()).collect();
                        ("processor", format!("store {}", names.join(", ")))
                    }
                };
                let mut line = format!("  {kind:<9}  {:<width$}", node.name);
                if !what.is_empty() {
                    line += &format!("  ({what})");
                }
                let children: Vec<_> = node.children.iter().map(|c| self.nodes[c.0].name.as_str()).collect();
                if !children.is_empty() {
                    line += &format!("  -> {}", children.join(", "));
                }
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}
