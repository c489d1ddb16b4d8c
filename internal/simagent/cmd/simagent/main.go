// Command simagent is the agents' programs in one: it acts by the name it is called by. It exists for test packages.
package main

func main() {}
