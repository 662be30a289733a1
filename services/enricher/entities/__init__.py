"""Find the people, projects, tools and concepts that a text names."""
