//! The plan as text.

use std::fmt;

use super::{NodeKind, Topology};

impl Topology {
    /// The plan as text, sub-topology by sub-topology; golden tests compare it.
    #[must_use]
    pub fn describe(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for subtopology in 0..self.subtopologies() {
            writeln!(f, "sub-topology {subtopology}")?;
            let width = self.nodes_of(subtopology).map(|(_, n)| n.name.len()).max().unwrap_or(0);
            for (_, node) in self.nodes_of(subtopology) {
                let (kind, what) = match &node.kind {
                    NodeKind::Source { topic, .. } => ("source", format!("topic {topic}")),
                    NodeKind::Sink { topic, .. } => ("sink", format!("topic {topic}")),
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
