"""Official MicroLens files: registry, download with resume, recognition of files that were fetched by hand."""
