-- Under the title of every page made from a notebook: open it in Colab, or download it.
local repository, branch = "ion-ode/ion_ode", "main"

function Pandoc(doc)
  local input = quarto.doc.input_file
  local root = quarto.project.directory
  if input == nil or root == nil or not input:match("%.ipynb$") then
    return doc
  end
  local page = input:sub(#root + 2):gsub("\\", "/")
  local at = repository .. "/blob/" .. branch .. "/nbs/" .. page
  local links = {
    pandoc.Link("Open in Colab", "https://colab.research.google.com/github/" .. at),
    pandoc.Str(" (first run "), pandoc.Code('!pip install "ion_ode[book] @ git+https://github.com/' .. repository .. '"'), pandoc.Str(") · "),
    pandoc.Link("Download the notebook", "https://github.com/" .. repository .. "/raw/" .. branch .. "/nbs/" .. page),
  }
  table.insert(doc.blocks, 1, pandoc.Div(pandoc.Para(links), pandoc.Attr("", { "notebook-links" })))
  return doc
end
