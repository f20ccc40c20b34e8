fn main() -> std::process::ExitCode {
    cifar_engine::cli::main()
}
