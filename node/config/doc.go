// Package config reads what a node is told at its start: flags, then environment
// variables, then defaults.
//
// It opens nothing and resolves no name; it only says, all at once, everything
// that is wrong. --data-dir has the variable RINGFORT_NODE_DATA_DIR, and so on
// for every flag. Variables of that form that belong to no flag are ignored,
// unless they are a letter or two away from one that does:
// Kubernetes puts such ones (RINGFORT_NODE_PORT, RINGFORT_NODE_SERVICE_HOST …)
// into every container beside a service of that name.
package config
