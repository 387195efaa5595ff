variable "name" {
  description = "Name of the installation."
  type        = string
}
