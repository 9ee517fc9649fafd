// Command skytools is the one binary of the sidecars.
package main

func main() {}
