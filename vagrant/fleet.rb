# Which machines there are, and the keys they are known by.

require "fileutils"
require "openssl"

class Fleet
  MASTER = "master"
  MINIONS = %w[web db log monitor web2 web3 web4 web5 web6].freeze
  SALT_LINES = %w[3008 3006].freeze
  NETWORK = "192.168.56" # one that VirtualBox allows without being told
  CLONE = "/srv/rocksalt"
  # What machines without the clone need of it: exact versions, and Salt's units.
  NEEDED = %w[requirements tests/lab/rocksalt_lab/rootfs/etc/systemd/system].freeze
  # What a container needs for systemd as PID 1 and a packet filter of its own.
  SYSTEM_CONTAINER = [
    "--cgroupns=private", "--tmpfs=/run", "--tmpfs=/run/lock", "--tmpfs=/tmp:exec",
    "--security-opt=seccomp=unconfined", "--security-opt=apparmor=unconfined",
    *%w[SYS_ADMIN NET_ADMIN AUDIT_CONTROL SYS_PTRACE].map { |name| "--cap-add=#{name}" }
  ].freeze

  attr_reader :salt, :machines

  # env: ROCKSALT_MINIONS and ROCKSALT_SALT; folder: where keys are kept, outside of what machines see.
  def initialize(env, folder)
    @salt = one_of(env, "ROCKSALT_SALT", SALT_LINES, "3008")
    count = one_of(env, "ROCKSALT_MINIONS", ("1"..MINIONS.size.to_s).to_a, "4").to_i
    names = [*MINIONS.first(count), MASTER]
    @machines = names.to_h { |name| [name, "#{NETWORK}.#{[MASTER, *MINIONS].index(name) + 10}"] }
    @folder = folder.to_s
  end

  # MiB of memory.
  def memory(name)
    name == MASTER ? 2048 : 1024
  end

  # Calls the block with each folder of the clone that a machine sees, and where it sees it.
  def share(name)
    folders = name == MASTER ? ["."] : NEEDED
    folders.each { |folder| yield folder, File.join(CLONE, folder).delete_suffix("/.") }
  end

  # The file of the key by which Vagrant logs in.
  def private_key
    key_file("ssh.pem")
  end

  # The same, as a line of authorized_keys.
  def public_key
    key = OpenSSL::PKey::RSA.new(File.read(private_key))
    fields = ["ssh-rsa", number(key.e), number(key.n)]
    "ssh-rsa #{[fields.map { |field| [field.bytesize].pack("N") + field }.join].pack("m0")} vagrant"
  end

  # The files of a minion's private and public key.
  def minion_keys(name)
    private_file = key_file("#{name}.pem")
    public_file = private_file.sub(/pem\z/, "pub")
    unless File.exist?(public_file)
      File.write(public_file, OpenSSL::PKey::RSA.new(File.read(private_file)).public_to_pem)
    end
    [private_file, public_file]
  end

  private

  def one_of(env, variable, allowed, default)
    value = env.fetch(variable, default)
    return value if allowed.include?(value)

    abort "rocksalt: #{variable} is #{value.inspect}; it can be #{allowed.join(", ")}."
  end

  def key_file(name)
    path = File.join(@folder, name)
    unless File.exist?(path)
      FileUtils.mkdir_p(@folder, mode: 0o700)
      File.write("#{path}.new", OpenSSL::PKey::RSA.new(3072).to_pem, perm: 0o600)
      File.rename("#{path}.new", path)
    end
    path
  end

  # A number as SSH writes it: big-endian, with a zero in front where it would be negative.
  def number(big)
    bytes = big.to_s(2)
    bytes.getbyte(0) < 128 ? bytes : "\0".b + bytes
  end
end
