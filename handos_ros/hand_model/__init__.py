"""The hand mesh as data: faces, template, skinning, joint regressor, left and right."""
