// Command kvnode runs one node of a Ringfort cluster until it is told to stop.
//
// It only turns flags and the machine (files, sockets, clocks) into what package
// node takes, and errors into exit codes; kvnode --help lists both.
package main
